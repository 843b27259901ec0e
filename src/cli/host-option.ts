/** The option by which a command finds its engine. */
export const hostOption = [
  "-H, --host <address>",
  "the engine's socket (default $DOCKER_HOST where that names a socket, else unix:///run/strata/strata.sock)",
] as const;
