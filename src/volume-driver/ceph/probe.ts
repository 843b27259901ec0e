/**
 * Asks monitors for the first words that each Ceph server says to whoever connects, so that a cluster that is away is
 * known within seconds: ceph-fuse itself waits for as long as it waits for metadata servers, and with v1 it cannot tell
 * a monitor that is away from another that refuses a key.
 */
import { connect } from "node:net";
import { EngineError } from "../../base/errors.ts";

/** One address to ask; the protocol that is expected there. */
export type Door = { readonly host: string; readonly port: number; readonly protocol: "v1" | "v2" };

const deadline = 10_000;

/** Resolves when one of them answers. Throws unavailable; `names` are the monitors in the words of the user. */
export async function probeMonitors(
  doors: readonly Door[],
  names: string,
  signal: AbortSignal | undefined,
): Promise<void> {
  const found = new AbortController();
  const limits = [AbortSignal.timeout(deadline), found.signal, ...(signal === undefined ? [] : [signal])];
  const others = new Set<string>();
  try {
    await Promise.any(
      doors.map(async (door) => {
        const banner = await bannerOf(door, AbortSignal.any(limits));
        // "ceph v2\n" and "ceph v027": https://docs.ceph.com/en/latest/dev/msgr2/
        const spoken = /^ceph v2\n/.test(banner) ? "v2" : /^ceph v0\d\d/.test(banner) ? "v1" : undefined;
        if (spoken === door.protocol) return;
        others.add(`at ${door.host}:${door.port} ${spoken === undefined ? "is no Ceph" : `${spoken} is spoken`}`);
        throw new Error("another");
      }),
    );
  } catch {
    signal?.throwIfAborted();
    const why = others.size === 0 ? "" : ` (${[...others].join(", ")})`;
    throw new EngineError("unavailable", `none of the monitors ${names} answers${why}`);
  } finally {
    found.abort();
  }
}

function bannerOf({ host, port }: Door, signal: AbortSignal): Promise<string> {
  return new Promise((resolve, reject) => {
    const socket = connect({ host: host.replace(/^\[|\]$/g, ""), port });
    const end = (): void => void socket.destroy();
    signal.addEventListener("abort", end, { once: true });
    socket.once("data", (bytes) => {
      resolve(bytes.toString("latin1", 0, 16));
      end();
    });
    socket.once("error", reject);
    socket.once("close", () => {
      signal.removeEventListener("abort", end);
      reject(new Error("closed"));
    });
    if (signal.aborted) end();
  });
}
