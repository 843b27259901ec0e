/**
 * node:http without its ES module face: to import that evaluates every export, WebSocket among them, for which Node
 * loads a whole web client (undici). That is 16 MB of the idle daemon for nothing. Types come from node:http itself.
 */
export const { createServer, request, STATUS_CODES } = process.getBuiltinModule("node:http");
