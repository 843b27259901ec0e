/** Routes carry no schemas (bodies are decoded by handlers), so fastify's compilers for them, 10 MB, need not be loaded. */
import { EngineError } from "../base/errors.ts";

export const noSchemas = { compilersFactory: { buildValidator: refuse, buildSerializer: refuse } };

function refuse(): never {
  throw new EngineError("internal", "a route with a schema: handlers decode their bodies themselves");
}
