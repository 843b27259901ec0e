/** What this engine calls itself; the same as in package.json (a test compares them). */
export const engineVersion = "0.1.0";
