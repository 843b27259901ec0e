/** The network store's tables: networks by id, and which containers were connected to one after they were made. */
import type { Schema } from "../metadata/database.ts";

export const networkSchema: Schema = {
  store: "network",
  steps: [
    `CREATE TABLE network (
       id TEXT PRIMARY KEY,
       name TEXT NOT NULL UNIQUE,
       driver TEXT NOT NULL,
       created_at TEXT NOT NULL,
       details TEXT NOT NULL
     ) STRICT, WITHOUT ROWID;
     CREATE TABLE network_endpoint (
       network TEXT NOT NULL REFERENCES network (id) ON DELETE CASCADE,
       container TEXT NOT NULL,
       settings TEXT NOT NULL,
       PRIMARY KEY (network, container)
     ) STRICT, WITHOUT ROWID;`,
  ],
};
