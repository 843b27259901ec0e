/**
 * The engine and its API inside the agent's own process: under qemu's interpreter a process of its own takes longer to
 * start than a power cut takes to replay.
 */
import { checkDataRoot } from "../../../src/check/check.ts";
import { openEngine } from "../../../src/engine.ts";
import { createDockerApi } from "../../../src/serve/docker-api/server.ts";
import type { Answer } from "./orders.ts";

/** The whole machine, or the folder that stands for one. */
const root = process.argv[3] ?? "";
export const dataRoot = `${root}/data/strata`;
const execRoot = `${root}/run/strata`;
export const socketPath = `${execRoot}/strata.sock`;

let running: { readonly stack: AsyncDisposableStack; readonly complaints: string[] } | undefined;

const words = (error: unknown): string => (error instanceof Error ? (error.stack ?? error.message) : String(error));

export async function open(driver: string): Promise<Answer> {
  await using stack = new AsyncDisposableStack();
  const complaints: string[] = [];
  const engine = stack.use(
    await openEngine({
      dataRoot,
      execRoot,
      storageDriver: driver,
      report: (message, error) => void complaints.push(`${message}: ${words(error)}`),
    }),
  );
  const facts = { id: engine.id, dataRoot, programs: engine.programs, warnings: [], debug: false, labels: [] };
  const services = { ...engine, facts: { ...facts, insecureRegistries: [] } };
  const onFailure = (error: unknown, request: string): void => void complaints.push(`${request}: ${words(error)}`);
  const api = stack.use(await createDockerApi(services, { onFailure }));
  await api.listen({ kind: "unix", path: socketPath });
  running = { stack: stack.move(), complaints };
  return { status: 0, text: "" };
}

export async function close(): Promise<Answer> {
  const engine = running;
  running = undefined;
  await engine?.stack.disposeAsync();
  return { status: 0, text: engine?.complaints.join("\n") ?? "" };
}

export async function check(): Promise<Answer> {
  const { problems, awaitingRemoval } = await checkDataRoot({ dataRoot, execRoot });
  const lines = problems.map(({ kind, object, detail }) => `${kind}: ${object}: ${detail}`);
  if (awaitingRemoval.trees > 0) lines.push(`awaiting removal: ${awaitingRemoval.trees} trees`);
  return { status: lines.length === 0 ? 0 : 1, text: lines.join("\n") };
}
