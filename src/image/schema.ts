/**
 * Tables of the image store. An image's config is kept as the text whose digest is the id. The foreign keys are the
 * store's last guard: an image that a reference or a child names cannot be deleted by whoever decided too early.
 */
import type { Schema } from "../metadata/database.ts";

export const imageSchema: Schema = {
  store: "image",
  steps: [
    `CREATE TABLE image (
       id TEXT PRIMARY KEY,
       bytes TEXT NOT NULL,
       parent TEXT REFERENCES image (id),
       local INTEGER NOT NULL CHECK (local IN (0, 1)),
       last_tagged TEXT
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX image_by_parent ON image (parent) WHERE parent IS NOT NULL;
     CREATE TABLE image_reference (
       name TEXT PRIMARY KEY,
       image TEXT NOT NULL REFERENCES image (id)
     ) STRICT, WITHOUT ROWID;
     CREATE INDEX image_reference_by_image ON image_reference (image);`,
  ],
};
