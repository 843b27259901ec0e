/**
 * Size limits by project quotas, for drivers whose layers are directories. Each limited layer is a project of its own,
 * with a number that nothing on that filesystem uses; the numbers are in the directories themselves, so there is no
 * list of them that could be lost.
 */
import { randomInt } from "node:crypto";
import { closeSync, fsyncSync, openSync, writeSync } from "node:fs";
import { mkdir } from "node:fs/promises";
import { join } from "node:path";
import { EngineError, errorMessage, systemCode } from "../base/errors.ts";
import { limitProject, projectOf, projectUsage, setProject } from "../host/project-quota.ts";

/** People number their own projects from 1. */
const firstProject = 0x100000;
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

/** Whether a project quota holds in `scratch`, an empty folder, found out by writing past one; resolves to why not. */
export async function tryProjectLimit(scratch: string): Promise<string | undefined> {
  const folder = join(scratch, "project");
  await mkdir(folder);
  try {
    limitFolders([folder], trialLimit);
  } catch (error) {
    return `project quotas do not work at ${scratch}: ${errorMessage(error)}`;
  }
  try {
    return writePast(join(folder, "file")) ? undefined : `project quotas are counted, not enforced, at ${scratch}`;
  } finally {
    releaseFolder(folder);
  }
}

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
