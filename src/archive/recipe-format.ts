/**
 * The recipe of a layer's tar: everything of the tar that the unpacked tree cannot give back, so that tar = recipe + tree,
 * bit for bit. Numbers are little-endian; `varint` is LEB128.
 *
 *     "STRATA recipe 1\n"
 *     block*        kind u8 ("M" main | "S" saved) · raw length u32 · stored length u32 · zstd frame
 *     end           "E" · offset of the first S block u64 · tar size u64 · "recipe ends\n"
 *
 * The raw bytes of the M blocks, one after another, are records; a record never spans blocks:
 *
 *     1 literal     varint length · bytes
 *     2 payload     varint path length · path · varint size · crc32 u32
 *
 * A payload is the content of the regular file at that real path (inside the root, no symlink in it). Payloads are
 * numbered from 0 in their order. Where the finished layer has another file at that path, or none, the content was
 * saved before it went: the raw bytes of the S blocks are, in ascending order of numbers,
 *
 *     varint number · content (as long as the payload's size)
 *
 * which may span blocks. A file without the end was never finished.
 */
export const recipeMagic = Buffer.from("STRATA recipe 1\n");
export const recipeEnd = Buffer.from("recipe ends\n");
export const endLength = 1 + 8 + 8 + recipeEnd.length;
export const blockHeader = 9;
/** Raw bytes of a block at most. */
export const largestBlock = 512 * 1024;
export const kind = { main: 0x4d, saved: 0x53, end: 0x45 } as const;
export const record = { literal: 1, payload: 2 } as const;
