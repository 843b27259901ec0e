/** What the host can ask of the guest's agent. */
import type { Content } from "../content.ts";

export type Order =
  /** A program, killed after `deadline` milliseconds; status is its exit code, text all that it printed. */
  | { readonly do: "run"; readonly command: readonly string[]; readonly deadline: number }
  /** A request to the engine; a body is `json`, or the tar of `tar`. */
  | {
      readonly do: "ask";
      readonly method: string;
      readonly path: string;
      readonly headers?: Readonly<Record<string, string>>;
      readonly json?: unknown;
      readonly tar?: Content;
    }
  /** Opens the engine on the data disk and serves the Docker API. */
  | { readonly do: "open"; readonly driver: string }
  /** Closes it; text is what it reported meanwhile. */
  | { readonly do: "close" }
  /** `strata check` of the closed engine's data root; text is its problems, and what awaits removal, one a line. */
  | { readonly do: "check" }
  /** Digests of the files below a folder of the data root, one a line. */
  | { readonly do: "digest"; readonly folder: string };

export type Answer = { readonly status: number; readonly text: string };
