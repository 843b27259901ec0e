/** Random trees that host and guest make alike from a seed. */
import { seededRandom } from "../support/random.ts";
import { type Member, tarOf } from "../support/tar-bytes.ts";

export type Content = {
  readonly seed: number;
  /** Folder below the root that everything stands in. */
  readonly folder: string;
  readonly files: number;
  /** Stands beside the rest, as a build's instructions. */
  readonly dockerfile?: string;
};

/** A file's bytes: incompressible, so that lost blocks cannot pass as zeros. */
export function randomBytes(random: () => number, length: number): Buffer {
  const bytes = Buffer.alloc(length);
  for (let at = 0; at < length; at++) bytes[at] = random() * 256;
  return bytes;
}

/** The files of a tree, most of them small and a few of many blocks. */
export function filesOf({ seed, folder, files }: Content): Member[] {
  const random = seededRandom(seed);
  return Array.from({ length: files }, (_, index) => ({
    name: `${folder}/d${index % 3}/f${index}`,
    content: randomBytes(random, Math.floor(random() < 0.15 ? random() * 120_000 : random() * 3000)),
  }));
}

/** The tree as a tar, with links. */
export function layerTar(content: Content): Buffer {
  const { folder, dockerfile } = content;
  const files = filesOf(content);
  const directories = [folder, `${folder}/d0`, `${folder}/d1`, `${folder}/d2`];
  return tarOf(
    ...directories.map((name) => ({ name: `${name}/`, type: "5", mode: 0o755 })),
    ...files,
    { name: `${folder}/hard`, type: "1", target: files[0]?.name ?? folder },
    { name: `${folder}/soft`, type: "2", target: "d0/f0" },
    ...(dockerfile === undefined ? [] : [{ name: "Dockerfile", content: dockerfile }]),
  );
}
