/**
 * Run under strace by sqlite-faults.test.ts: `node sqlite-child.ts <meta.db>`. Opens the metadata store, hands in
 * transactions one after another, each of two rows, and prints what became of each: `ok N`, or `failed N code`. Rows of
 * 3 kB and a checkpoint in between make it use the database's file as well as its journal.
 */
import { errorCode } from "../../src/base/errors.ts";
import type { Schema, Statement } from "../../src/metadata/database.ts";
import { openDatabase } from "../../src/metadata/open.ts";

export const schema: Schema = { store: "faults", steps: ["CREATE TABLE part (name TEXT, half INTEGER, data TEXT)"] };

const half = (name: string, which: number): Statement => ({
  sql: "INSERT INTO part (name, half, data) VALUES (?, ?, ?)",
  parameters: [name, which, "x".repeat(3000)],
});

const say = (line: string): void => void process.stdout.write(`${line}\n`);

async function work(path: string): Promise<void> {
  try {
    await using database = await openDatabase(path, [schema]);
    for (let index = 0; index < 8; index++)
      try {
        await database.transact([half(`t${index}`, 1), half(`t${index}`, 2)]);
        say(`ok ${index}`);
      } catch (error) {
        say(`failed ${index} ${errorCode(error)}`);
      }
  } catch (error) {
    say(`not open ${errorCode(error)}`);
  }
}

const [, , path] = process.argv;
if (path !== undefined) await work(path);
