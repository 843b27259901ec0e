import assert from "node:assert/strict";
import { describe, test } from "node:test";
import { isError } from "../base/errors.ts";
import { resolveCapabilities } from "./capabilities.ts";
import { createFailure, execFailure, lastError, startExitCode } from "./runtime-words.ts";
import { parseSeccompProfile, toOciSeccomp } from "./seccomp.ts";
import { wantsNoNewPrivileges } from "./security.ts";
import { buildSpec, type SpecInput } from "./spec.ts";
import { rootPropagationOf, specMounts } from "./spec-mounts.ts";
import { x32Enabled } from "./x32.ts";

const input: SpecInput = {
  id: "abc",
  rootfs: "/r",
  hostname: "h",
  args: ["sh"],
  env: [],
  cwd: "",
  user: { uid: 0, gid: 0, additionalGids: [] },
  tty: false,
  mounts: [],
  network: "none",
};

const invalid = (pattern: RegExp) => (error: unknown) =>
  isError(error, "invalid_argument") && pattern.test(error.message);

describe("the spec", () => {
  test("names cgroup and namespaces by the modes", async () => {
    const spec = (await buildSpec({
      ...input,
      pid: "host",
      ipc: { path: "/proc/7/ns/ipc" },
      cgroupParent: "mine",
    })) as {
      linux: { cgroupsPath: string; namespaces: { type: string; path?: string }[] };
    };
    assert.equal(spec.linux.cgroupsPath, "/mine/abc");
    assert.deepEqual(spec.linux.namespaces, [
      { type: "mount" },
      { type: "network" },
      { type: "uts" },
      { type: "ipc", path: "/proc/7/ns/ipc" },
    ]);
  });

  test("the host's name is left alone with the host's UTS namespace", async () => {
    assert.equal("hostname" in (await buildSpec({ ...input, uts: "host" })), false);
  });

  test("refuses what cannot be done", async () => {
    await assert.rejects(buildSpec({ ...input, args: [] }), invalid(/No command specified/));
    await assert.rejects(buildSpec({ ...input, initPath: "/no/init" }), (error) => isError(error, "not_found"));
    await assert.rejects(buildSpec({ ...input, securityOptions: ["frob"] }), invalid(/invalid --security-opt: "frob"/));
    await assert.rejects(buildSpec({ ...input, securityOptions: ["label=type:x"] }), (error) =>
      isError(error, "unsupported"),
    );
    await assert.rejects(
      buildSpec({ ...input, securityOptions: ["seccomp={"] }),
      invalid(/Decoding seccomp profile failed/),
    );
    const devices = [{ hostPath: "/dev/no-such", containerPath: "/dev/x", permissions: "rwm" }];
    await assert.rejects(
      buildSpec({ ...input, devices }),
      invalid(
        /error gathering device information while adding custom device "\/dev\/no-such": no such file or directory/,
      ),
    );
  });

  test("privileged has the host's devices and no bounds", async () => {
    const { linux } = (await buildSpec({ ...input, privileged: true })) as {
      linux: {
        devices: { path: string; major: number }[];
        maskedPaths: string[];
        resources: { devices: unknown };
        seccomp?: unknown;
      };
    };
    assert.equal(linux.devices.find(({ path }) => path === "/dev/null")?.major, 1);
    assert.deepEqual(linux.resources.devices, [{ allow: true, access: "rwm" }]);
    assert.deepEqual(linux.maskedPaths, []);
    assert.equal(linux.seccomp, undefined);
  });
});

describe("capabilities", () => {
  test("adds win over drops, unless everything is added", () => {
    assert.deepEqual(resolveCapabilities({ capDrop: ["all"], capAdd: ["CAP_CHOWN"] }), ["CAP_CHOWN"]);
    assert.ok(!resolveCapabilities({ capDrop: ["chown"] }).includes("CAP_CHOWN"));
    assert.ok(resolveCapabilities({ capDrop: ["chown"], capAdd: ["chown"] }).includes("CAP_CHOWN"));
    const most = resolveCapabilities({ capAdd: ["ALL"], capDrop: ["chown"] });
    assert.ok(!most.includes("CAP_CHOWN") && most.includes("CAP_NET_ADMIN"));
  });

  test("an unknown name is refused in Docker's words", () => {
    assert.throws(
      () => resolveCapabilities({ capAdd: ["fly"] }),
      invalid(/^invalid CapAdd: unknown capability: "CAP_FLY"$/),
    );
  });
});

describe("seccomp profiles", () => {
  const profile = parseSeccompProfile(
    JSON.stringify({
      defaultAction: "SCMP_ACT_ERRNO",
      archMap: [{ architecture: "SCMP_ARCH_X86_64", subArchitectures: ["SCMP_ARCH_X86", "SCMP_ARCH_X32"] }],
      syscalls: [
        { names: ["read"], action: "SCMP_ACT_ALLOW" },
        { names: ["write"], action: "SCMP_ACT_ALLOW" },
        { names: ["mount"], action: "SCMP_ACT_ALLOW", includes: { caps: ["CAP_SYS_ADMIN"] } },
        {
          names: ["clone"],
          action: "SCMP_ACT_ALLOW",
          args: [{ index: 0, value: 1, op: "SCMP_CMP_EQ" }],
          excludes: { caps: ["CAP_SYS_ADMIN"] },
        },
        { names: ["future"], action: "SCMP_ACT_ALLOW", includes: { minKernel: "99.0" } },
        { names: ["ptrace"], action: "SCMP_ACT_ALLOW", includes: { minKernel: "4.8" } },
        { names: ["elsewhere"], action: "SCMP_ACT_ALLOW", includes: { arches: ["s390"] } },
      ],
    }),
  );

  test("keep the rules that hold here, and join equal ones", () => {
    const { syscalls } = toOciSeccomp(profile, [], false) as { syscalls: { names: string[] }[] };
    assert.deepEqual(
      syscalls.map((rule) => rule.names),
      [["read", "write", "ptrace"], ["clone"]],
    );
    const admin = toOciSeccomp(profile, ["CAP_SYS_ADMIN"], false) as { syscalls: { names: string[] }[] };
    assert.deepEqual(
      admin.syscalls.map((rule) => rule.names),
      [["read", "write", "mount", "ptrace"]],
    );
  });

  test("leave x32 out where the kernel cannot run it", { skip: process.arch === "x64" ? false : "x86-64 only" }, () => {
    const architectures = (x32: boolean): unknown => toOciSeccomp(profile, [], x32).architectures;
    assert.deepEqual(architectures(false), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86"]);
    assert.deepEqual(architectures(true), ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"]);
  });

  for (const [name, config, line, expected] of [
    ["left out", "# CONFIG_X86_X32_ABI is not set", "quiet", false],
    ["built in", "CONFIG_X86_X32_ABI=y", "quiet", true],
    ["built in under its old name", "CONFIG_X86_X32=y", "quiet", true],
    ["built in and off", "CONFIG_X86_X32=y\nCONFIG_X86_X32_DISABLED=y", "quiet", false],
    ["built in, off and switched on", "CONFIG_X86_X32=y\nCONFIG_X86_X32_DISABLED=y", "quiet syscall.x32=y", true],
  ] as const)
    test(`x32 is ${expected ? "there" : "not there"} when it is ${name}`, () =>
      assert.equal(x32Enabled(config, line), expected));
});

describe("mounts of the spec", () => {
  const rules = { mounts: [], privileged: false, shmSize: 1, ipc: "private", initPath: undefined } as const;
  const bind = (destination: string, ...options: string[]) => ({ destination, type: "bind", source: "/s", options });

  test("an own /dev hides the default ones below it", () => {
    const destinations = specMounts({ ...rules, mounts: [bind("/dev")] }).map((mount) => mount.destination);
    assert.deepEqual(destinations, ["/proc", "/sys", "/sys/fs/cgroup", "/dev"]);
  });

  test("propagation of the root follows the mounts", () => {
    assert.equal(rootPropagationOf([bind("/a", "rprivate")]), undefined);
    assert.equal(rootPropagationOf([bind("/a", "rslave")]), "rslave");
    assert.equal(rootPropagationOf([bind("/a", "rslave"), bind("/b", "rshared")]), "shared");
  });
});

describe("the runtime's words", () => {
  test("are the last error of its log", () => {
    const log = '{"level":"warning","msg":"a"}\n{"level":"error","msg":"b"}\nnoise\n';
    assert.equal(lastError(log), "b");
    assert.equal(lastError("plain text\n"), "plain text");
    assert.equal(lastError(""), undefined);
  });

  test("become Docker's, with a code", () => {
    assert.equal(createFailure("boom").code, "internal");
    assert.match(createFailure("mount: not a directory").message, /Are you trying to mount a directory onto a file/);
    assert.equal(execFailure('exec: "x": permission denied').code, "invalid_argument");
    assert.equal(startExitCode("boom"), undefined);
  });
});

test("no-new-privileges is on, off or refused", () => {
  assert.equal(wantsNoNewPrivileges([]), false);
  assert.equal(wantsNoNewPrivileges(["no-new-privileges:true"]), true);
  assert.equal(wantsNoNewPrivileges(["no-new-privileges=false"]), false);
  assert.throws(() => wantsNoNewPrivileges(["no-new-privileges=perhaps"]), invalid(/no-new-privileges/));
});
