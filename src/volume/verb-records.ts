/** Rows of what verbs do with volumes: last uses, kept copies, and the intents that start-up ends (schema.ts). */
import type { Database, Row, Statement } from "../metadata/database.ts";
import { decodeStrings } from "./records.ts";

export type KeptCopy = {
  readonly volume: string;
  readonly name: string;
  /** The folder's name below `volume-snapshots`. */
  readonly id: string;
  /** RFC 3339. */
  readonly createdAt: string;
  readonly bytes: number;
  readonly state: "creating" | "ready" | "removing";
};

export type Move = {
  readonly volume: string;
  /** Where data of the volume are besides those that its own row names. */
  readonly driver: string;
  readonly options: Readonly<Record<string, string>>;
  /** `copying`: they are being made. `moved`: they are the old ones, to be removed. */
  readonly state: "copying" | "moved";
  /** Ids of containers that were stopped for it and are to be started. */
  readonly stopped: readonly string[];
};

export const usedStatement = (volume: string, usedAt: string): Statement => ({
  sql: `INSERT INTO volume_use (volume, used_at) VALUES (?, ?)
          ON CONFLICT (volume) DO UPDATE SET used_at = excluded.used_at`,
  parameters: [volume, usedAt],
});

export function lastUse(database: Database, volume: string): string | undefined {
  const row = database.get("SELECT used_at FROM volume_use WHERE volume = ?", volume);
  return row === undefined ? undefined : String(row.used_at);
}

/** What goes with a volume's row. */
export const forgetStatements = (volume: string): readonly Statement[] =>
  ["volume_use", "volume_restore", "volume_rename"].map((table) => ({
    sql: `DELETE FROM ${table} WHERE volume = ?`,
    parameters: [volume],
  }));

const copyColumns = "volume, name, id, created_at, bytes, state";

/** Oldest first, whatever their state. */
export function listCopies(database: Database, volume?: string): readonly KeptCopy[] {
  const order = "ORDER BY created_at, name";
  const rows =
    volume === undefined
      ? database.all(`SELECT ${copyColumns} FROM volume_snapshot ${order}`)
      : database.all(`SELECT ${copyColumns} FROM volume_snapshot WHERE volume = ? ${order}`, volume);
  return rows.map(decodeCopy);
}

export const insertCopy = ({ volume, name, id, createdAt, bytes, state }: KeptCopy): Statement => ({
  sql: `INSERT INTO volume_snapshot (${copyColumns}) VALUES (?, ?, ?, ?, ?, ?)`,
  parameters: [volume, name, id, createdAt, bytes, state],
  changes: 1,
});

export const setCopyState = (id: string, state: KeptCopy["state"], bytes: number): Statement => ({
  sql: "UPDATE volume_snapshot SET state = ?, bytes = ? WHERE id = ?",
  parameters: [state, bytes, id],
  changes: 1,
});

export const deleteCopy = (id: string): Statement => ({
  sql: "DELETE FROM volume_snapshot WHERE id = ?",
  parameters: [id],
});

/** Id of the copy that is being restored. */
export function pendingRestore(database: Database, volume: string): string | undefined {
  const row = database.get("SELECT snapshot FROM volume_restore WHERE volume = ?", volume);
  return row === undefined ? undefined : String(row.snapshot);
}

export const beginRestore = (volume: string, id: string): Statement => ({
  sql: "INSERT INTO volume_restore (volume, snapshot) VALUES (?, ?) ON CONFLICT (volume) DO UPDATE SET snapshot = excluded.snapshot",
  parameters: [volume, id],
});

export const endRestore = (volume: string): Statement => ({
  sql: "DELETE FROM volume_restore WHERE volume = ?",
  parameters: [volume],
});

export const beginRename = (volume: string, name: string): Statement => ({
  sql: "INSERT INTO volume_rename (volume, new_name) VALUES (?, ?)",
  parameters: [volume, name],
  changes: 1,
});

export const endRename = (volume: string): Statement => ({
  sql: "DELETE FROM volume_rename WHERE volume = ?",
  parameters: [volume],
});

/** Old name -> new name. */
export const pendingRenames = (database: Database): ReadonlyMap<string, string> =>
  new Map(
    database
      .all("SELECT volume, new_name FROM volume_rename")
      .map((row) => [String(row.volume), String(row.new_name)] as const),
  );

/** Every row that names the volume by its old name. Fails when a container has come to hold it. */
export const renameStatements = (
  from: string,
  to: { readonly name: string; readonly mountpoint: string },
): readonly Statement[] => [
  {
    sql: `UPDATE volume SET name = ?, mountpoint = ? WHERE name = ? AND state = 'ready'
            AND NOT EXISTS (SELECT 1 FROM volume_reference WHERE volume = volume.name)`,
    parameters: [to.name, to.mountpoint, from],
    changes: 1,
  },
  { sql: "UPDATE volume_snapshot SET volume = ? WHERE volume = ?", parameters: [to.name, from] },
  { sql: "UPDATE volume_use SET volume = ? WHERE volume = ?", parameters: [to.name, from] },
  endRename(from),
];

export const optionsStatement = (
  name: string,
  options: Readonly<Record<string, string>>,
  mountpoint: string,
): Statement => ({
  sql: "UPDATE volume SET options = ?, mountpoint = ? WHERE name = ? AND state = 'ready'",
  parameters: [JSON.stringify(options), mountpoint, name],
  changes: 1,
});

export function findMove(database: Database, volume: string): Move | undefined {
  const row = database.get("SELECT * FROM volume_move WHERE volume = ?", volume);
  return row === undefined ? undefined : decodeMove(row);
}

export const listMoves = (database: Database): readonly Move[] =>
  database.all("SELECT * FROM volume_move ORDER BY volume").map(decodeMove);

export const putMove = ({ volume, driver, options, state, stopped }: Move): Statement => ({
  sql: `INSERT INTO volume_move (volume, driver, options, state, stopped) VALUES (?, ?, ?, ?, ?)
          ON CONFLICT (volume) DO UPDATE SET driver = excluded.driver, options = excluded.options,
            state = excluded.state, stopped = excluded.stopped`,
  parameters: [volume, driver, JSON.stringify(options), state, JSON.stringify(stopped)],
});

export const deleteMove = (volume: string): Statement => ({
  sql: "DELETE FROM volume_move WHERE volume = ?",
  parameters: [volume],
});

/** The volume's own row names another driver from now on. */
export const movedStatement = (
  name: string,
  to: {
    readonly driver: string;
    readonly options: Readonly<Record<string, string>>;
    readonly scope: string;
    readonly mountpoint: string;
  },
): Statement => ({
  sql: "UPDATE volume SET driver = ?, options = ?, scope = ?, mountpoint = ? WHERE name = ? AND state = 'ready'",
  parameters: [to.driver, JSON.stringify(to.options), to.scope, to.mountpoint, name],
  changes: 1,
});

function decodeCopy(row: Row): KeptCopy {
  return {
    volume: String(row.volume),
    name: String(row.name),
    id: String(row.id),
    createdAt: String(row.created_at),
    bytes: Number(row.bytes),
    state: row.state === "creating" ? "creating" : row.state === "removing" ? "removing" : "ready",
  };
}

function decodeMove(row: Row): Move {
  return {
    volume: String(row.volume),
    driver: String(row.driver),
    options: decodeStrings(row.options),
    state: row.state === "moved" ? "moved" : "copying",
    stopped: decodeList(row.stopped),
  };
}

function decodeList(text: unknown): readonly string[] {
  const value: unknown = JSON.parse(String(text));
  return Array.isArray(value) ? value.map(String) : [];
}
