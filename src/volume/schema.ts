/**
 * The volume store's tables. A volume's row goes creating -> ready -> removing -> gone; only `ready` is a volume to
 * anybody else. A reference is a row too, written in the transaction of the container that makes it.
 */
import type { Schema } from "../metadata/database.ts";

export const volumeSchema: Schema = {
  store: "volume",
  steps: [
    `CREATE TABLE volume (
       name TEXT PRIMARY KEY,
       driver TEXT NOT NULL,
       options TEXT NOT NULL,
       labels TEXT NOT NULL,
       anonymous INTEGER NOT NULL CHECK (anonymous IN (0, 1)),
       scope TEXT NOT NULL CHECK (scope IN ('local', 'global')),
       mountpoint TEXT NOT NULL,
       created_at TEXT NOT NULL,
       state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing'))
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE volume_reference (
       container TEXT NOT NULL,
       volume TEXT NOT NULL,
       PRIMARY KEY (container, volume)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX volume_reference_volume ON volume_reference (volume);`,
    // What this store's own staging in volumes that others share is known by.
    `CREATE TABLE volume_store (id TEXT NOT NULL) STRICT;
     INSERT INTO volume_store (id) VALUES (lower(hex(randomblob(8))));`,
    // When it was last mounted or unmounted for a container.
    `CREATE TABLE volume_use (
       volume TEXT PRIMARY KEY,
       used_at TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     -- Full copies that the store keeps for drivers without snapshots: volume-snapshots/<id>.
     CREATE TABLE volume_snapshot (
       volume TEXT NOT NULL,
       name TEXT NOT NULL,
       id TEXT NOT NULL UNIQUE,
       created_at TEXT NOT NULL,
       bytes INTEGER NOT NULL,
       state TEXT NOT NULL CHECK (state IN ('creating', 'ready', 'removing')),
       PRIMARY KEY (volume, name)
     ) STRICT, WITHOUT ROWID;
     -- A restore from such a copy that is under way: nobody sees the volume before it has ended.
     CREATE TABLE volume_restore (
       volume TEXT PRIMARY KEY,
       snapshot TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     -- A driver is giving a volume another name.
     CREATE TABLE volume_rename (
       volume TEXT PRIMARY KEY,
       new_name TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     -- A migration: data of the volume besides that which its row names, at the driver that it moves to (copying), or came from (moved).
     CREATE TABLE volume_move (
       volume TEXT PRIMARY KEY,
       driver TEXT NOT NULL,
       options TEXT NOT NULL,
       state TEXT NOT NULL CHECK (state IN ('copying', 'moved')),
       stopped TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;`,
  ],
};
