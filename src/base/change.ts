/** What happened to a path of a container against its image, with Docker's numbers (`GET /containers/{id}/changes`). */
export const changeKind = { modified: 0, added: 1, deleted: 2 } as const;
export type ChangeKind = (typeof changeKind)[keyof typeof changeKind];

/** `path` is absolute inside the container. */
export type Change = { readonly path: string; readonly kind: ChangeKind };
