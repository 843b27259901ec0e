/** Turns code that writes into bytes that are read, with back-pressure: one chunk waits at a time. */

type Write = (chunk: Uint8Array) => Promise<void>;

/** `produce` starts at the first read. When the reader leaves early, the next write rejects and `produce` must end. */
export async function* bytesOf(produce: (write: Write) => Promise<void>): AsyncIterable<Uint8Array> {
  let deliver = Promise.withResolvers<Uint8Array | undefined>();
  let taken = Promise.withResolvers<void>();
  let left = false;
  const write: Write = async (chunk) => {
    if (left) throw new Error("the reader of this stream has gone");
    const wait = taken.promise;
    deliver.resolve(chunk);
    await wait;
  };
  const production = produce(write).then(
    () => deliver.resolve(undefined),
    (error: unknown) => deliver.reject(error),
  );
  try {
    for (;;) {
      const chunk = await deliver.promise;
      if (chunk === undefined) return;
      deliver = Promise.withResolvers();
      yield chunk;
      const { resolve } = taken;
      taken = Promise.withResolvers();
      resolve();
    }
  } finally {
    left = true;
    taken.reject(new Error("the reader of this stream has gone"));
    taken.promise.catch(() => undefined);
    deliver.promise.catch(() => undefined);
    await production;
  }
}
