/**
 * Strata against a stock dockerd, command for command: what the docker CLI prints, its exit code and its error text. Skips
 * where no dockerd is installed.
 */
import { execFileSync } from "node:child_process";
import { mkdirSync, writeFileSync } from "node:fs";
import { join } from "node:path";
import { after, before, describe, test } from "node:test";
import { busyboxTar, dockerdIsHere, scratchFolder, startDockerd, startStrata, unmountBelow } from "./support/engine.ts";
import { type Pair, type ParityOptions, same } from "./support/parity.ts";

type Case = readonly [string, readonly (readonly [readonly string[], ParityOptions?])[]];

const words = (text: string): readonly string[] => text.split(" ");
const net = ["--network", "none"];

const cases: readonly Case[] = [
  [
    "run passes output and exit codes through",
    [
      [["run", "--rm", ...net, "bb", "echo", "hello"]],
      [["run", "--rm", ...net, "bb", "sh", "-c", "echo out; echo err >&2; exit 3"]],
      [["run", "--rm", "-i", ...net, "bb", "cat"], { input: "through stdin\n" }],
      [["run", "--rm", ...net, "-e", "A=1", "-w", "/tmp", "-u", "user", "bb", "sh", "-c", "echo $A; pwd; id -u"]],
      [["run", "--rm", ...net, "-h", "host-name", "bb", "hostname"]],
      [["run", "--rm", ...net, "--entrypoint", "echo", "bb", "entry"]],
      [["run", "--rm", ...net, "--read-only", "bb", "sh", "-c", "touch /x"]],
      [["run", "--rm", ...net, "--tmpfs", "/t:size=1m", "bb", "sh", "-c", "grep ' /t ' /proc/mounts"]],
    ],
  ],
  [
    "errors of run are worded and numbered alike",
    [
      [["run", "--rm", ...net, "bb", "no-such-command"], { looseText: true }],
      [["run", "--rm", ...net, "bb", "/etc/passwd"], { looseText: true }],
      [["run", "--rm", ...net, "-u", "nobody-here", "bb", "true"], { looseText: true }],
      [["run", "--rm", ...net, "-v", "/x:/data:bogus", "bb", "true"]],
      [["run", "--rm", ...net, "-v", "vol:/", "bb", "true"]],
      [["run", "--rm", ...net, "-v", "a1:/d", "-v", "a2:/d", "bb", "true"]],
      [["run", "--rm", ...net, "--mount", "type=bind,src=/nonexist,dst=/d", "bb", "true"]],
      [["run", "--rm", ...net, "-v", "rel/path:/data", "bb", "true"]],
      [["run", "--rm", ...net, "--volumes-from", "nobody", "bb", "true"]],
      [["create", ...net, "--name", "bad name", "bb"]],
      [["create", ...net, "--cap-add", "NOSUCH", "bb"]],
    ],
  ],
  [
    "a container's life",
    [
      [
        [
          "create",
          ...net,
          "--name",
          "life",
          "-l",
          "a=b",
          "bb",
          "sh",
          "-c",
          "trap 'exit 5' TERM; while true; do sleep 0.1; done",
        ],
      ],
      [["ps", "-a", "--format", "{{.Names}} {{.Image}} {{.Command}} {{.State}} {{.Labels}}"]],
      [["create", "--name", "life", "bb"]],
      [["start", "life"]],
      [["exec", "life", "echo", "in"]],
      [["exec", "-e", "X=y", "-w", "/tmp", "-u", "1000:1000", "life", "sh", "-c", "echo $X; pwd; id -u; id -g"]],
      [["exec", "life", "sh", "-c", "exit 9"]],
      [["exec", "-i", "life", "cat"], { input: "piped" }],
      [["pause", "life"]],
      [["pause", "life"]],
      [["exec", "life", "true"], { looseText: true }],
      [["unpause", "life"]],
      [["rename", "life", "life2"]],
      [["rename", "life2", "life2"]],
      [["rm", "life2"], { looseText: true }],
      [["stop", "life2"]],
      [["inspect", "-f", "{{.State.Status}} {{.State.ExitCode}} {{.Name}} {{.Path}} {{.Args}}", "life2"]],
      [["kill", "life2"], { looseText: true }],
      [["exec", "life2", "true"], { looseText: true }],
      [["start", "-a", "nobody"]],
      [["rm", "life2"], { looseText: true }],
      [["rm", "life2"], { looseText: true }],
      [["rm", "-f", "life2"]],
      [["inspect", "life2"]],
      [["logs", "life2"]],
    ],
  ],
  [
    "logs, wait, diff and cp",
    [
      [["run", ...net, "--name", "logged", "bb", "sh", "-c", "echo one; echo two; echo three; printf no-newline"]],
      [["logs", "logged"]],
      [["logs", "--tail", "2", "logged"]],
      [["logs", "--tail", "0", "logged"]],
      [["wait", "logged"]],
      [
        [
          "run",
          ...net,
          "--name",
          "changed",
          "bb",
          "sh",
          "-c",
          "echo x > /new; mkdir /dir; echo y > /dir/f; rm /etc/group; echo z >> /etc/passwd",
        ],
      ],
      [["diff", "changed"], { sort: true }],
      [["cp", "changed:/nowhere", "-"]],
      [["cp", "changed:/new", "/nowhere/at/all"]],
      [["run", "--rm", ...net, "-v", "shared:/data", "bb", "sh", "-c", "echo kept >/data/f; ls -l /data | wc -l"]],
      [
        [
          "volume",
          "inspect",
          "-f",
          "{{.Name}} {{.Driver}} {{.Mountpoint}} {{.Scope}} {{.Labels}} {{.Options}}",
          "shared",
        ],
      ],
      [["rm", "logged", "changed"]],
    ],
  ],
  [
    "volumes",
    [
      [["volume", "create", "v1"]],
      [["volume", "create", "v1"]],
      [["volume", "create", "-l", "x=y", "v2"]],
      [["volume", "create", "x"]],
      [["volume", "create", "a/b"]],
      [["volume", "create", "-o", "bogus=1", "tq"]],
      [["volume", "create", "-o", "device=tmpfs", "tq"]],
      [["volume", "ls", "--format", "{{.Driver}} {{.Name}}", "-f", "name=v", "-f", "driver=local"], { sort: true }],
      [["volume", "ls", "-q", "-f", "label=x=y"]],
      [["volume", "ls", "-q", "-f", "bogus=1"], { looseText: true }],
      [["volume", "inspect", "nosuch"]],
      [["create", "--name", "holder", "-v", "v1:/d", "bb"]],
      [["volume", "rm", "v1"]],
      [["volume", "rm", "-f", "v1"]],
      [["volume", "ls", "-q", "-f", "dangling=true", "-f", "name=v", "-f", "driver=local"], { sort: true }],
      [["rm", "-v", "holder"]],
      [["volume", "rm", "v1", "v2"]],
      [["volume", "rm", "v1"]],
      [["volume", "rm", "-f", "v1"]],
    ],
  ],
  [
    "volumes with options",
    [
      [["volume", "create", "-o", "size=much", "vo"]],
      [["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=size=1m,uid=1000", "vt"]],
      [["volume", "inspect", "-f", "{{.Driver}} {{.Mountpoint}} {{json .Options}} {{.Scope}}", "vt"]],
      [
        [
          "run",
          "--rm",
          ...net,
          "-v",
          "vt:/d",
          "bb",
          "sh",
          "-c",
          "ls -ld /d | cut -c1-30; df -k /d | tail -1; echo x > /d/f",
        ],
      ],
      [["run", "--rm", ...net, "-v", "vt:/d", "bb", "ls", "/d"]],
      [["volume", "create", "-o", "type=ext4", "-o", "device=/nonexistent", "vb"]],
      [["run", "--rm", ...net, "-v", "vb:/d", "bb", "true"]],
      [["volume", "create", "-o", "type=none", "-o", "device=/nonexistent", "-o", "o=bind", "vn"]],
      [["run", "--rm", ...net, "-v", "vn:/d", "bb", "true"]],
      [["volume", "create", "-o", "type=tmpfs", "-o", "device=tmpfs", "-o", "o=odd,password=hunter2", "vp"]],
      [["run", "--rm", ...net, "-v", "vp:/d", "bb", "true"], { looseText: true }],
      [["volume", "prune", "-f"], { onlyCode: true }],
      [["volume", "rm", "vt", "vb", "vn", "vp"]],
    ],
  ],
  [
    "images",
    [
      [["tag", "bb", "other/name:1.0"]],
      [["tag", "nosuch", "x"]],
      [["tag", "bb", "UPPER"]],
      [["images", "--format", "{{.Repository}} {{.Tag}}"], { sort: true }],
      [["images", "-f", "reference=other/*", "--format", "{{.Repository}}"]],
      [["images", "-f", "bogus=1"], { looseText: true }],
      [["inspect", "-f", "{{.Os}} {{.Architecture}} {{len .RootFS.Layers}} {{.Config.Cmd}}", "bb"]],
      [["history", "--format", "{{.Comment}} {{.CreatedBy}}", "bb"]],
      [["create", "--name", "user", "other/name:1.0"]],
      [["rmi", "other/name:1.0"]],
      [["rmi", "bb"]],
      [["rmi", "other/name:1.0", "nosuch"]],
      [["rm", "user"]],
      [["save", "nosuch"]],
      [["load"], { input: "this is no tar", looseText: true }],
      [["import", "/nonexistent"]],
      [["image", "inspect", "nosuch"], { looseText: true }],
    ],
  ],
  [
    "builds",
    [
      [["build", "-q", "-f", "nosuch", "CONTEXT"]],
      // Metadata steps need no container here, so no container is named.
      [["build", "-t", "built", "CONTEXT"], { onlyCode: true }],
      [["build", "-t", "built", "CONTEXT"]],
      [["run", "--rm", ...net, "built"]],
      [
        [
          "inspect",
          "-f",
          "{{json .Config.Env}} {{json .Config.Cmd}} {{.Config.WorkingDir}} {{json .Config.Labels}} {{json .Config.ExposedPorts}} {{json .Config.Volumes}} {{.Config.User}}",
          "built",
        ],
      ],
      [["history", "--no-trunc", "--format", "{{.CreatedBy}} {{.Size}}", "built"]],
      [["build", "-f", "Fails", "CONTEXT"]],
      [["build", "-f", "Unknown", "CONTEXT"]],
    ],
  ],
];

const contextFiles: Readonly<Record<string, string>> = {
  Dockerfile: `FROM bb
LABEL a=b "c d"=e
ENV X=1 Y="two words"
ARG N=5
WORKDIR /srv/dir
COPY file sub/ ./
RUN echo $N $X > out && cat file
EXPOSE 80 443/udp
VOLUME /vol
USER user
CMD cat out
`,
  Fails: "FROM bb\nRUN exit 7\n",
  Unknown: "FROM bb\nFOO bar\n",
  file: "content\n",
  "sub/inner": "inner\n",
};

describe("command for command beside a stock dockerd", {
  skip: dockerdIsHere() ? false : "no dockerd is installed",
}, () => {
  const scratch = scratchFolder();
  let pair: Pair;

  before(async () => {
    const strata = await startStrata({ root: join(scratch.path, "strata") });
    const dockerd = await startDockerd(join(scratch.path, "dockerd"), join(scratch.path, "dockerd/data"));
    pair = { strata, dockerd };
    const tar = await busyboxTar(join(scratch.path, "bb.tar"));
    for (const daemon of [strata, dockerd]) await daemon.ok(["import", "-c", 'CMD ["sh"]', tar, "bb"]);
    for (const [name, text] of Object.entries(contextFiles)) {
      mkdirSync(join(scratch.path, "context/sub"), { recursive: true });
      writeFileSync(join(scratch.path, "context", name), text);
    }
  });

  after(async () => {
    for (const daemon of [pair.strata, pair.dockerd]) {
      const ids = words((await daemon.ok(["ps", "-aq"])).replaceAll("\n", " ")).filter((id) => id !== "");
      if (ids.length > 0) await daemon.docker(["rm", "-f", "-v", ...ids]);
      await daemon.stop();
    }
    execFileSync("umount", ["-l", "/run/docker", "/etc/docker"]);
    await unmountBelow(scratch.path);
    scratch[Symbol.dispose]();
  });

  for (const [name, steps] of cases) {
    test(name, async (context) => {
      for (const [args, options] of steps) {
        const filled = args.map((arg) => (arg === "CONTEXT" ? join(scratch.path, "context") : arg));
        await context.test(`docker ${args.join(" ")}`.slice(0, 110), () => same(pair, filled, options));
      }
    });
  }
});
