/** Strings that only their parser makes: `type DiffId = Brand<Digest, "DiffId">`. */
declare const brand: unique symbol;

export type Brand<T, Name extends string> = T & { readonly [brand]: { readonly [key in Name]: true } };
