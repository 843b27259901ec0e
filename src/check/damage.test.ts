/** Each kind of damage, done by outside programs: what check calls it, what repair does, and what the next check says. */
import assert from "node:assert/strict";
import { randomBytes } from "node:crypto";
import { existsSync, readdirSync } from "node:fs";
import { join } from "node:path";
import { type TestContext, test } from "node:test";
import { btrfs } from "../storage-driver/btrfs/driver.ts";
import type { DriverFactory } from "../storage-driver/driver.ts";
import { overlay2 } from "../storage-driver/overlay2/driver.ts";
import { loopHome } from "../storage-driver/scratch-home.ts";
import { vfs } from "../storage-driver/vfs/driver.ts";
import { containerId, DataRoot } from "./data-root.fixture.ts";
import type { ProblemKind } from "./problem.ts";

type Case = {
  readonly name: string;
  readonly damage: (root: DataRoot) => void;
  /** What a check finds; two drivers may differ in what else cannot be seen. */
  readonly finds: readonly ProblemKind[];
  /** What is left after a repair; nothing when undefined. */
  readonly lost?: readonly ProblemKind[];
  /** What is left after a repair with --force; `lost` when undefined. */
  readonly forced?: readonly ProblemKind[];
  /** Looks at the object and the detail. */
  readonly says?: RegExp;
  readonly after?: (root: DataRoot) => void;
  readonly drivers?: readonly DriverFactory[];
};

const stranger = randomBytes(16).toString("hex");
const half =
  "INSERT INTO layer_layers (id, driver, kind, state) SELECT ?, driver, 'image', 'staging' FROM layer_layers LIMIT 1";

/** A btrfs layer is a read-only subvolume: whoever damages it has to open it first. */
function writable(root: DataRoot, id: string): string {
  if (root.factory.name === "btrfs") root.run("btrfs", "property", "set", "-f", root.folder(id), "ro", "false");
  return root.tree(id);
}

/** overlay2 with a limit for each container, which then has a filesystem of its own. */
const limited: DriverFactory = {
  ...overlay2,
  open: (home, options, context) => overlay2.open(home, { "overlay2.size": "8m", ...options }, context),
};

/** No container uses the image, and its config is another's. */
function spoilUnusedImage(root: DataRoot): void {
  for (const table of ["container", "layer_writables", "volume_reference"]) root.sql(`DELETE FROM ${table}`);
  root.run("rm", "-rf", join(root.root, "containers", containerId));
  root.sql("UPDATE image SET bytes = replace(bytes, 'amd64', 'arm64') WHERE id = ?", root.app);
}

const cases: readonly Case[] = [
  {
    name: "a directory that no record names is removed",
    damage: (root) => root.run("mkdir", "-p", join(root.folder(stranger), "diff")),
    finds: ["layer-data-unknown"],
    says: new RegExp(stranger),
    after: (root) => assert.equal(existsSync(root.folder(stranger)), false),
  },
  {
    name: "a directory left in staging is removed",
    damage: (root) => root.run("mkdir", join(root.root, root.factory.name, "staging", stranger)),
    finds: ["layer-data-unknown"],
  },
  {
    name: "a top layer without its directory is lost, and names its image",
    damage: (root) => root.run("rm", "-rf", root.folder(root.idOf(root.top))),
    finds: ["layer-data-missing"],
    lost: ["layer-data-missing"],
    says: /app:1/,
    drivers: [overlay2, vfs],
  },
  {
    name: "a lowest layer without its directory is lost",
    damage: (root) => root.run("rm", "-rf", root.folder(root.idOf(root.low))),
    finds: ["layer-data-missing"],
    lost: ["layer-data-missing"],
    drivers: [overlay2, vfs],
  },
  {
    name: "a layer whose unpacked tar is gone is lost",
    damage: (root) => root.run("rm", "-rf", root.folder(root.dataOf(root.idOf(root.low)))),
    finds: ["layer-data-missing"],
    lost: ["layer-data-missing"],
    says: /unpacked tar that it shares/,
    drivers: [overlay2],
  },
  {
    name: "an unpacked tar that no layer stands on is removed",
    damage: (root) => {
      root.run("mkdir", root.folder(stranger));
      root.sql(`INSERT INTO layer_diffs (id, driver, state, diff_id) VALUES ('${stranger}', 'overlay2', 'ready', 'x')`);
    },
    finds: ["layer-unused"],
    drivers: [overlay2],
  },
  {
    name: "an unpacked tar whose facts cannot be read is not shared further",
    damage: (root) => root.sql("UPDATE layer_diffs SET facts = x'00' WHERE id = ?", root.dataOf(root.idOf(root.low))),
    finds: ["layer-record-damaged"],
    drivers: [overlay2],
  },
  {
    name: "a file with other content is lost, and named",
    damage: (root) =>
      root.run("sh", "-c", 'printf X | dd of="$0" conv=notrunc', join(writable(root, root.idOf(root.low)), "bin/tool")),
    finds: ["layer-content-changed"],
    lost: ["layer-content-changed"],
    says: /\/bin\/tool/,
  },
  {
    name: "a file that was cut is lost",
    damage: (root) => root.run("truncate", "-s", "3", join(writable(root, root.idOf(root.low)), "etc/hosts")),
    finds: ["layer-content-changed"],
    lost: ["layer-content-changed"],
    says: /\/etc\/hosts/,
  },
  {
    name: "an empty file that was filled is lost",
    damage: (root) => root.run("sh", "-c", 'echo more > "$0"', join(writable(root, root.idOf(root.low)), "etc/empty")),
    finds: ["layer-content-changed"],
    lost: ["layer-content-changed"],
    says: /\/etc\/empty/,
  },
  {
    name: "a missing file is lost, and named",
    damage: (root) => root.run("rm", join(writable(root, root.idOf(root.low)), "etc/hosts")),
    finds: ["layer-file-missing"],
    lost: ["layer-file-missing"],
    says: /1 file: \/etc\/hosts/,
  },
  {
    name: "a missing symlink is found, which no digest shows",
    damage: (root) => root.run("rm", join(writable(root, root.idOf(root.low)), "bin/alias")),
    finds: ["layer-file-missing"],
    lost: ["layer-file-missing"],
    says: /\/bin\/alias/,
  },
  {
    name: "a changed mode is found",
    damage: (root) => root.run("chmod", "0755", join(writable(root, root.idOf(root.low)), "bin/tool")),
    finds: ["layer-attributes-changed"],
    lost: ["layer-attributes-changed"],
    says: /\/bin\/tool \(mode 0755 instead of 4755\)/,
  },
  {
    name: "a changed mode of a directory is found",
    damage: (root) => root.run("chmod", "0700", join(writable(root, root.idOf(root.low)), "etc")),
    finds: ["layer-attributes-changed"],
    lost: ["layer-attributes-changed"],
    says: /\/etc \(mode 0700 instead of 0755\)/,
  },
  {
    name: "a changed owner is found",
    damage: (root) => root.run("chown", "5:6", join(writable(root, root.idOf(root.low)), "etc/hosts")),
    finds: ["layer-attributes-changed"],
    lost: ["layer-attributes-changed"],
    says: /owner 5:6 instead of 0:0/,
  },
  {
    name: "a changed extended attribute is found",
    damage: (root) =>
      root.run("setfattr", "-n", "user.mark", "-v", "no", join(writable(root, root.idOf(root.low)), "bin/marked")),
    finds: ["layer-attributes-changed"],
    lost: ["layer-attributes-changed"],
    says: /attribute user.mark has another value/,
  },
  {
    name: "another link target is found",
    damage: (root) => root.run("ln", "-sfn", "/bin/sh", join(writable(root, root.idOf(root.low)), "bin/alias")),
    finds: ["layer-attributes-changed"],
    lost: ["layer-attributes-changed"],
    says: /another link target/,
  },
  {
    name: "a file that somebody put into a layer is found",
    damage: (root) => root.run("sh", "-c", 'echo evil > "$0"', join(writable(root, root.idOf(root.top)), "etc/cron")),
    finds: ["layer-tree-changed"],
    lost: ["layer-tree-changed"],
    says: /\/etc\/cron \(added\)/,
  },
  {
    name: "a deleted file that shows again is found",
    damage: (root) => root.run("rm", join(root.tree(root.idOf(root.top)), "bin/gone")),
    finds: ["layer-tree-changed"],
    lost: ["layer-tree-changed"],
    says: /\/bin\/gone/,
    drivers: [overlay2],
  },
  {
    name: "a copied file of a lower layer that went from the copy is found",
    damage: (root) => root.run("rm", join(writable(root, root.idOf(root.top)), "etc/hosts")),
    finds: ["layer-tree-changed"],
    lost: ["layer-tree-changed"],
    says: /\/etc\/hosts \(gone\)/,
    drivers: [vfs, btrfs],
  },
  {
    name: "a missing recipe is lost",
    damage: (root) => root.run("rm", root.recipe(root.top)),
    finds: ["layer-recipe-missing"],
    lost: ["layer-recipe-missing"],
  },
  {
    name: "a truncated recipe is lost",
    damage: (root) => root.run("truncate", "-s", "-20", root.recipe(root.top)),
    finds: ["layer-recipe-damaged"],
    lost: ["layer-recipe-damaged"],
  },
  {
    name: "a recipe with other bytes is lost",
    damage: (root) =>
      root.run("sh", "-c", 'printf XXXXXXXX | dd of="$0" bs=1 seek=40 conv=notrunc', root.recipe(root.top)),
    finds: ["layer-recipe-damaged"],
    lost: ["layer-recipe-damaged"],
  },
  {
    name: "a recipe that no record names is removed",
    damage: (root) => root.run("cp", root.recipe(root.top), join(root.root, "layers/recipes", stranger)),
    finds: ["layer-recipe-unknown"],
  },
  {
    name: "a parent that is not recorded, with an image that lacks a layer",
    damage: (root) => {
      root.erase(root.low);
    },
    finds: ["container-layer-missing", "image-layer-missing", "layer-parent-missing"],
    lost: ["container-layer-missing", "image-layer-missing", "layer-parent-missing"],
    drivers: [overlay2, vfs],
  },
  {
    name: "an image whose layers are gone is removed with --force, once no container uses it",
    damage: spoilUnusedImage,
    finds: ["image-config-damaged", "layer-data-unknown"],
    lost: ["image-config-damaged"],
    // Its layers are nobody's from then on.
    forced: ["layer-unused", "layer-unused", "layer-unused"],
    drivers: [vfs],
  },
  {
    name: "an image whose layers are gone is removed with --force, with the tars that they shared",
    damage: spoilUnusedImage,
    finds: ["image-config-damaged", "layer-data-unknown"],
    lost: ["image-config-damaged"],
    // Its layers are nobody's from then on.
    forced: ["layer-unused", "layer-unused", "layer-unused", "layer-unused", "layer-unused"],
    drivers: [overlay2],
  },
  {
    name: "an image config with another digest is lost while a container uses it",
    damage: (root) => root.sql("UPDATE image SET bytes = bytes || ' ' WHERE id = ?", root.app),
    finds: ["image-config-damaged"],
    lost: ["image-config-damaged"],
    says: new RegExp(containerId),
  },
  {
    name: "a reference to an image that is gone is removed",
    damage: (root) =>
      root.sql(
        "INSERT INTO image_reference (name, image) VALUES ('docker.io/library/lost:1', ?)",
        `sha256:${"a".repeat(64)}`,
      ),
    finds: ["reference-without-image"],
  },
  {
    name: "a hold for an image that is gone is removed",
    damage: (root) =>
      root.sql("INSERT INTO layer_owners (owner, layer) SELECT 'image:sha256:gone', id FROM layer_layers LIMIT 1"),
    finds: ["layer-owner-missing"],
  },
  {
    name: "an image that does not hold its layers holds them again",
    damage: (root) => root.sql("DELETE FROM layer_owners WHERE owner = ?", `image:${root.app}`),
    finds: ["image-layer-not-held"],
  },
  {
    name: "a container whose image is gone, and that holds none of its layers, is told and left alone",
    damage: (root) => {
      root.sql("DELETE FROM image_reference WHERE image = ?", root.app);
      root.sql("DELETE FROM layer_owners WHERE owner = ?", `image:${root.app}`);
      root.sql("DELETE FROM image WHERE id = ?", root.app);
    },
    finds: ["container-image-missing"],
    lost: ["container-image-missing"],
    says: /web/,
  },
  {
    name: "a container without a layer's record is told, and its directory is nobody's",
    damage: (root) => root.sql("DELETE FROM layer_writables"),
    finds: ["container-layer-missing", "layer-data-unknown"],
    lost: ["container-layer-missing"],
  },
  {
    name: "an init layer without its directory is made again",
    damage: (root) => {
      const { id } = root.row("SELECT id FROM layer_layers WHERE kind = 'init'");
      root.run("rm", "-rf", root.folder(String(id)));
    },
    finds: ["layer-data-missing"],
    drivers: [overlay2, vfs],
  },
  {
    name: "a container's directory of changes is made again, empty, and says what is lost",
    damage: (root) => root.run("rm", "-rf", root.folder(root.writable)),
    finds: ["container-data-missing"],
    says: /16 bytes recorded/,
    drivers: [overlay2],
  },
  {
    name: "a container's directory of changes is made again with its size limit",
    damage: (root) => {
      root.sql("UPDATE container SET record = json_set(record, '$.hostConfig.StorageOpt', json_object('size', '9m'))");
      root.run("rm", "-rf", root.folder(root.writable));
    },
    finds: ["container-data-missing"],
    after: (root) => assert.ok(existsSync(join(root.folder(root.writable), "image"))),
    drivers: [overlay2],
  },
  {
    name: "a container's own filesystem that is damaged is lost",
    damage: (root) => {
      const image = join(root.folder(root.writable), "image");
      root.run("dd", "if=/dev/zero", `of=${image}`, "bs=1M", "count=6", "conv=notrunc");
    },
    finds: ["container-data-damaged"],
    lost: ["container-data-damaged"],
    drivers: [limited],
  },
  {
    name: "a container's directory of changes that is gone from its folder is lost",
    damage: (root) => root.run("rm", "-rf", join(root.folder(root.writable), "diff")),
    finds: ["container-data-damaged"],
    lost: ["container-data-damaged"],
    drivers: [overlay2],
  },
  {
    name: "a container's whole tree cannot be made again",
    damage: (root) => root.run("rm", "-rf", root.folder(root.writable)),
    finds: ["container-data-missing"],
    lost: ["container-data-missing"],
    drivers: [vfs],
  },
  {
    name: "the layer of a container that is not recorded goes only with --force",
    damage: (root) => root.sql("DELETE FROM container"),
    finds: ["container-unknown", "container-unknown", "volume-reference-dangling"],
    lost: ["container-unknown"],
    forced: [],
  },
  {
    name: "a volume in use without its directory is lost",
    damage: (root) => root.run("rm", "-rf", join(root.root, "volumes/data")),
    finds: ["volume-data-missing"],
    lost: ["volume-data-missing"],
  },
  {
    name: "a volume that nobody uses, without its directory, is forgotten",
    damage: (root) => root.run("rm", "-rf", join(root.root, "volumes/free")),
    finds: ["volume-data-missing"],
  },
  {
    name: "a volume's directory without a record gets one",
    damage: (root) => root.run("cp", "-a", join(root.root, "volumes/data"), join(root.root, "volumes/copied")),
    finds: ["volume-unknown"],
    after: (root) => {
      assert.equal(root.row("SELECT state FROM volume WHERE name = 'copied'").state, "ready");
      assert.ok(existsSync(join(root.root, "volumes/copied/_data/file")));
    },
  },
  {
    name: "a half-made volume goes with its directory",
    damage: (root) => root.sql("UPDATE volume SET state = 'removing' WHERE name = 'free'"),
    finds: ["volume-half-made"],
    after: (root) => assert.equal(existsSync(join(root.root, "volumes/free")), false),
  },
  {
    name: "full copies of volumes: one without its folder is forgotten, a folder without its record goes, a whole one stays",
    damage: (root) => {
      root.run("mkdir", "-p", ...["whole", "unknown"].map((id) => join(root.root, "volume-snapshots", id, "data")));
      const insert =
        "INSERT INTO volume_snapshot (volume, name, id, created_at, bytes, state) VALUES ('data', ?, ?, '', 0, 'ready')";
      root.sql(insert, "first", "whole");
      root.sql(insert, "second", "gone");
    },
    finds: ["leftover", "volume-snapshot-missing"],
    after: (root) => {
      assert.deepEqual(readdirSync(join(root.root, "volume-snapshots")), ["whole"]);
      assert.equal(root.row("SELECT count(*) AS n FROM volume_snapshot WHERE id = 'whole'").n, 1);
    },
  },
  {
    name: "a half-made layer goes with its data",
    damage: (root) => {
      root.sql(half, stranger);
      root.run("mkdir", root.folder(stranger));
    },
    finds: ["layer-half-made"],
    after: (root) => assert.equal(existsSync(root.folder(stranger)), false),
  },
  {
    name: "a half-removed layer of a container goes",
    damage: (root) =>
      root.sql(
        "INSERT INTO layer_writables (data, id, driver, state) SELECT ?, 'x', driver, 'removing' FROM layer_layers LIMIT 1",
        stranger,
      ),
    finds: ["layer-half-made"],
  },
  {
    name: "leftovers of staging, trash, marks and mounts go",
    damage: (root) => {
      root.run("mkdir", "-p", join(root.root, "staging/member"), join(root.root, "staging-build/build-1"));
      root.run("mkdir", join(root.root, "volumes/.gone-1"), join(root.root, root.factory.name, "trash/1"));
      root.run("touch", join(root.root, "layers/open", stranger));
      root.run("mkdir", "-p", join(root.execRoot, "mnt/1"), join(root.execRoot, "layers/nobody"));
      root.run("mount", "-t", "tmpfs", "none", join(root.execRoot, "mnt/1"));
    },
    finds: Array.from({ length: 7 }, () => "leftover" as const),
  },
  {
    name: "a recorded size of a layer that differs is mended",
    damage: (root) => root.sql("UPDATE layer_layers SET size = 1 WHERE chain_id = ?", root.top),
    finds: ["size-differs"],
    after: (root) => assert.equal(root.row("SELECT size FROM layer_layers WHERE chain_id = ?", root.top).size, 7),
  },
  {
    name: "a recorded size of a container that differs is mended",
    damage: (root) => root.sql("UPDATE layer_writables SET size = 99"),
    finds: ["size-differs"],
    after: (root) => assert.equal(root.row("SELECT size FROM layer_writables").size, 16),
  },
  {
    name: "a recorded digest that differs is lost",
    damage: (root) =>
      root.sql("UPDATE layer_layers SET chain_id = ? WHERE chain_id = ?", `sha256:${"b".repeat(64)}`, root.top),
    finds: ["image-layer-missing", "layer-record-damaged"],
    lost: ["image-layer-missing", "layer-record-damaged"],
  },
];

async function play(root: DataRoot, { damage, finds, lost = [], says, after, forced = lost }: Case): Promise<void> {
  damage(root);
  const { problems } = await root.check();
  assert.deepEqual(problems.map(({ kind }) => kind).sort(), [...finds].sort(), JSON.stringify(problems, null, 1));
  if (says !== undefined)
    assert.match(problems.map(({ object, detail, repair }) => `${object}: ${detail}; ${repair}`).join("\n"), says);
  const repaired = await root.check({ repair: true });
  assert.deepEqual(
    repaired.problems.filter((problem) => problem.failure !== undefined),
    [],
  );
  assert.deepEqual(await root.kinds(), [...lost].sort());
  if (forced !== lost) {
    await root.check({ repair: true, force: true });
    assert.deepEqual(await root.kinds(), [...forced].sort());
  }
  after?.(root);
  await root.assertOtherIsSound();
}

async function playAll(factory: DriverFactory, context: TestContext, base?: string): Promise<void> {
  const sample = /mode is found|content is lost|from the copy|recipe is lost|of a container that differs/;
  const isMeant = ({ name, drivers }: Case): boolean =>
    drivers === undefined ? factory !== limited && (factory !== btrfs || sample.test(name)) : drivers.includes(factory);
  for (const one of cases.filter(isMeant))
    await context.test(one.name, async () => {
      await using root = await DataRoot.make(factory, base);
      await play(root, one);
    });
}

for (const factory of [overlay2, vfs]) test(factory.name, (context) => playAll(factory, context));

test("overlay2 with a size limit for each container", (context) => playAll(limited, context));

test("btrfs", async (context) => {
  await using home = await loopHome("btrfs");
  await playAll(btrfs, context, home.path);
});
