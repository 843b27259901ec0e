/** Where the pool finds this folder's tasks: `pool.run(archiveTasks, "applyLayerTask", argument, { input })`. */
export const archiveTasks = new URL("./tasks.ts", import.meta.url);
