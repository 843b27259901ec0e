/**
 * The layer store's tables. A row's `id` is the driver's id of the data; ids are random and never used twice, so a row
 * and its directory cannot be mistaken for another's. Rows of other drivers stay untouched: a data root may change its
 * driver and come back.
 *
 * `layer_layers`: kind `image` (known by chain_id once ready) and `init` (what the engine puts over an image; its
 * parent is the image's top layer). `layer_owners`: who holds a chain. `layer_writables`: containers' layers; `size` is
 * what the last unmount measured, NULL when nobody knows. `layer_driver`: what `strata migrate` did (driver-roles.ts).
 * `layer_diffs`: unpacked tars that stand under several layers; a layer with a `diff` keeps only what that lacks on its
 * chain, and when it is `thin` that is the root's attributes.
 */
import type { Schema } from "../metadata/database.ts";

export const layerSchema: Schema = {
  store: "layer",
  steps: [
    `CREATE TABLE layer_layers (
      id TEXT PRIMARY KEY,
      driver TEXT NOT NULL,
      kind TEXT NOT NULL CHECK (kind IN ('image', 'init')),
      state TEXT NOT NULL CHECK (state IN ('staging', 'ready', 'removing')),
      parent TEXT REFERENCES layer_layers (id),
      chain_id TEXT,
      diff_id TEXT,
      size INTEGER,
      tar_size INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX layer_chain ON layer_layers (driver, chain_id) WHERE kind = 'image' AND state = 'ready';
    CREATE UNIQUE INDEX layer_init ON layer_layers (driver, coalesce(parent, '')) WHERE kind = 'init' AND state = 'ready';
    CREATE INDEX layer_parent ON layer_layers (parent);
    CREATE TABLE layer_owners (
      owner TEXT NOT NULL,
      layer TEXT NOT NULL REFERENCES layer_layers (id),
      PRIMARY KEY (owner, layer)
    ) STRICT, WITHOUT ROWID;
    CREATE INDEX layer_owner_layer ON layer_owners (layer);
    CREATE TABLE layer_writables (
      data TEXT PRIMARY KEY,
      id TEXT NOT NULL,
      driver TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('staging', 'ready', 'removing')),
      init TEXT REFERENCES layer_layers (id),
      size INTEGER
    ) STRICT;
    CREATE UNIQUE INDEX layer_writable_id ON layer_writables (id) WHERE state <> 'removing';
    CREATE INDEX layer_writable_init ON layer_writables (init);`,
    `DROP INDEX layer_writable_id;
    CREATE UNIQUE INDEX layer_writable_id ON layer_writables (driver, id) WHERE state <> 'removing';
    CREATE TABLE layer_driver (
      name TEXT PRIMARY KEY,
      role TEXT NOT NULL CHECK (role IN ('current', 'arriving', 'kept')),
      source TEXT
    ) STRICT;`,
    `CREATE TABLE layer_diffs (
      id TEXT PRIMARY KEY,
      driver TEXT NOT NULL,
      state TEXT NOT NULL CHECK (state IN ('staging', 'ready', 'removing')),
      diff_id TEXT,
      size INTEGER,
      tar_size INTEGER,
      facts BLOB
    ) STRICT;
    CREATE INDEX layer_diff_id ON layer_diffs (driver, diff_id);
    ALTER TABLE layer_layers ADD COLUMN diff TEXT REFERENCES layer_diffs (id);
    ALTER TABLE layer_layers ADD COLUMN thin INTEGER NOT NULL DEFAULT 0;
    CREATE INDEX layer_layer_diff ON layer_layers (diff);`,
  ],
};
