/**
 * Size limits by project quotas, for drivers whose layers are directories. Each limited layer is a project of its own,
 * with a number that nothing on that filesystem uses; the numbers are in the directories themselves, so there is no
 * list of them that could be lost.
 */
import { randomInt } from "node:crypto";
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { dirname, join } from "node:path";
import { EngineError, errorMessage, systemCode } from "../base/errors.ts";
import { mountAll, unmountAll } from "./mount.ts";
import { limitProject, projectOf, projectUsage, setProject } from "./project-quota.ts";

/** People number their own projects from 1. */
export const firstProject = 0x100000;
const lastProject = 0x7fffffff;
const attempts = 100;
const mebibyte = 1 << 20;
/** xfs makes no file at all where little more than a file's own records is free. */
const trialLimit = 2 * mebibyte;

/** Limits to `bytes` what will be made in `folders`, which are empty and of one filesystem. On failure nothing stays but the folders. */
export function limitFolders(folders: readonly [string, ...string[]], bytes: number): void {
  const [first] = folders;
  const project = freeProject(first);
  limitProject(first, project, bytes);
  try {
    for (const folder of folders) setProject(folder, project);
  } catch (error) {
    limitProject(first, project, 0);
    throw error;
  }
}

/** Takes the limit of a folder's project away, before the folder goes. A folder without one, or none: nothing. */
export function releaseFolder(folder: string): void {
  try {
    const project = projectOf(folder);
    if (project >= firstProject) limitProject(folder, project, 0);
  } catch (error) {
    // A file is a writable with a filesystem of its own.
    if (systemCode(error) !== "ENOENT" && systemCode(error) !== "ENOTDIR") throw error;
  }
}

function freeProject(folder: string): number {
  for (let attempt = 0; attempt < attempts; attempt++) {
    const project = randomInt(firstProject, lastProject);
    const { limit, inodes } = projectUsage(folder, project);
    if (limit === 0 && inodes === 0) return project;
  }
  throw new EngineError("internal", `no free project number was found for ${folder}`);
}

/**
 * Whether a project quota holds in `scratch`, an empty folder, found out by writing past one; resolves to why not. ext4
 * lets processes with CAP_SYS_RESOURCE write past it, but not what they write through an overlay: with the options of
 * one, `overlay`, it is tried so.
 */
export async function tryProjectLimit(scratch: string, overlay?: readonly string[]): Promise<string | undefined> {
  const [lower, view, upper, work] = ["lower", "view", "upper", "work"].map((name) => join(scratch, name)) as Four;
  for (const folder of [lower, view, upper, work]) await mkdir(folder);
  try {
    limitFolders([upper, work], trialLimit);
  } catch (error) {
    return `project quotas do not work at ${dirname(scratch)}: ${errorMessage(error)}`;
  }
  try {
    if (overlay !== undefined) mountAll([{ kind: "overlay", lower: [lower], upper, work, options: overlay }], view);
    const isHeld = writePast(join(overlay === undefined ? upper : view, "file"));
    return isHeld ? undefined : `project quotas are counted, not enforced, at ${dirname(scratch)}`;
  } finally {
    unmountAll(view);
    releaseFolder(upper);
  }
}

type Four = [string, string, string, string];

function writePast(path: string): boolean {
  const file = openSync(path, "w");
  try {
    for (let written = 0; written <= trialLimit; written += mebibyte) writeSync(file, Buffer.alloc(mebibyte, "x"));
    fsyncSync(file);
    return false;
  } catch (error) {
    if (systemCode(error) === "EDQUOT" || systemCode(error) === "ENOSPC") return true;
    throw error;
  } finally {
    closeSync(file);
  }
}
