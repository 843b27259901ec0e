/** Malformed requests, with the status that each must have and a part of the message. Nothing of them may be made. */
import type { Call } from "./api.ts";

export type BadRequest = Call & { readonly status: number; readonly says: RegExp };

const json = { "Content-Type": "application/json" };
const filtered = (path: string, filters: unknown): string =>
  `${path}?filters=${encodeURIComponent(typeof filters === "string" ? filters : JSON.stringify(filters))}`;

const get = (path: string, status: number, says: RegExp): BadRequest => ({ method: "GET", path, status, says });
const post = (path: string, status: number, says: RegExp, body?: string): BadRequest => ({
  method: "POST",
  path,
  status,
  says,
  ...(body === undefined ? {} : { body, headers: json }),
});
const remove = (path: string, status: number, says: RegExp): BadRequest => ({ method: "DELETE", path, status, says });

/** A create of a container from the image `bb`, with these members more. */
const create = (members: object, status: number, says: RegExp): BadRequest =>
  post("/containers/create", status, says, JSON.stringify({ Image: "bb", ...members }));
const hosted = (HostConfig: unknown, status: number, says: RegExp): BadRequest => create({ HostConfig }, status, says);
const named = (name: string): BadRequest =>
  post(`/containers/create?name=${encodeURIComponent(name)}`, 400, /^Invalid container name/, '{"Image":"bb"}');
const volume = (body: object, status: number, says: RegExp): BadRequest =>
  post("/volumes/create", status, says, JSON.stringify(body));
const network = (body: object, status: number, says: RegExp): BadRequest =>
  post("/networks/create", status, says, JSON.stringify(body));

const wrongBodies: readonly (readonly [string, RegExp])[] = [
  ["{bad", /^invalid JSON/],
  ['{"Image":', /^invalid JSON: unexpected EOF/],
  ['{"Image":"bb"} x', /^unexpected content after JSON/],
  ['{"Image":"bb"}{}', /^unexpected content after JSON/],
  ["[]", /^invalid JSON: .*expected object, received array/],
  ["3", /^invalid JSON: .*expected object, received number/],
  ['"x"', /^invalid JSON: .*expected object, received string/],
  ["", /empty|EOF/],
  ["null", /empty|EOF/],
  ["\u0000", /^invalid JSON/],
  ["[".repeat(100_000), /^invalid JSON/],
];

const bodies: readonly BadRequest[] = ["/containers/create", "/volumes/create", "/networks/create"].flatMap((path) => [
  ...wrongBodies.map(([body, says]) => post(path, 400, says, body)),
  { method: "POST", path, status: 400, says: /^malformed Content-Type header/, body: "{}" },
  ...["text/plain", "application/jsonx", "application/x-tar"].map((type) => ({
    ...{ method: "POST", path, status: 400, says: /^unsupported Content-Type header/, body: "{}" },
    headers: { "Content-Type": type },
  })),
]);

const configs: readonly BadRequest[] = [
  create({ Image: 3 }, 400, /Image: .*expected string, received number/),
  create({ Image: null }, 400, /^No command specified/),
  create({ Image: "nosuch" }, 404, /^No such image: nosuch:latest/),
  create({ Image: "../../etc" }, 400, /^invalid reference format/),
  create({ Image: "a\nb" }, 400, /^invalid reference format/),
  create({ Image: "a\0b" }, 400, /^invalid reference format/),
  create({ Image: `bb:${"t".repeat(200)}` }, 400, /^invalid reference format/),
  create({ Image: "bb@sha256:00" }, 400, /^invalid reference format/),
  create({ Cmd: {} }, 400, /Cmd/),
  create({ Cmd: [1] }, 400, /Cmd/),
  create({ Cmd: ["a\0b"] }, 400, /Config\.Cmd\.0 has a NUL byte/),
  create({ Cmd: ["x".repeat(70_000)] }, 400, /command's name is too long/),
  create({ Cmd: ["sh", "x".repeat(140_000)] }, 400, /word of the command is too long/),
  create({ Env: "A=1" }, 400, /Env/),
  create({ Env: ["=x"] }, 400, /^invalid environment variable: =x/),
  create({ Env: ["A=\0"] }, 400, /Env\.0 has a NUL byte/),
  create({ Labels: [] }, 400, /Labels/),
  create({ Labels: { a: 1 } }, 400, /Labels/),
  create({ WorkingDir: "rel" }, 400, /needs to be an absolute path/),
  create({ StopSignal: "NOPE" }, 400, /^invalid signal: NOPE/),
  create({ StopTimeout: "1" }, 400, /StopTimeout/),
  create({ Volumes: { "/": {} } }, 400, /destination can't be '\/'/),
  create({ Volumes: [] }, 400, /Volumes/),
  create({ User: 3 }, 400, /User/),
  create({ User: "a\0" }, 400, /User has a NUL/),
  create({ Hostname: "a\nb" }, 400, /invalid hostname format/),
  create({ Healthcheck: "x" }, 400, /Healthcheck/),
  create({ MacAddress: "zz" }, 501, /MAC addresses are not supported/),
  create({ NetworkingConfig: { EndpointsConfig: [] } }, 400, /NetworkingConfig/),
];

const hostConfigs: readonly BadRequest[] = [
  hosted([], 400, /HostConfig: .*received array/),
  hosted({ Memory: "1" }, 400, /HostConfig\.Memory: .*expected number, received string/),
  hosted({ Memory: -1 }, 400, /^Minimum memory limit allowed is 6MB/),
  hosted({ Memory: 1e300 }, 400, /expected integer/),
  hosted({ MemorySwap: -2 }, 400, /memoryswap/),
  hosted({ NanoCpus: -1 }, 400, /^range of CPUs/),
  hosted({ CpuShares: -1 }, 400, /CPU shares/),
  hosted({ CpuPeriod: 1 }, 400, /CPU cfs period/),
  hosted({ CpusetCpus: "x" }, 400, /^Invalid value x for cpuset cpus/),
  hosted({ CpusetCpus: "9999" }, 400, /^Requested CPUs are not available/),
  hosted({ ShmSize: -1 }, 400, /^SHM size can not be less than 0/),
  hosted({ OomScoreAdj: 5000 }, 400, /range for oom score adj/),
  hosted({ CapAdd: ["NOPE"] }, 400, /unknown capability: "CAP_NOPE"/),
  hosted({ CapDrop: ["X\n"] }, 400, /unknown capability/),
  hosted({ Binds: ["/nonexist:/d:bogus"] }, 400, /^invalid mode: bogus/),
  hosted({ Binds: [""] }, 400, /^invalid volume specification/),
  hosted({ Binds: ["v1:/"] }, 400, /destination can't be '\/'/),
  hosted({ Binds: ["v1:rel"] }, 400, /mount path must be absolute/),
  hosted({ Binds: ["va:/d", "vb:/d"] }, 400, /^Duplicate mount point: \/d/),
  hosted({ Binds: ["../x:/d"] }, 400, /includes invalid characters for a local volume name/),
  hosted({ Binds: ["/a\0:/d"] }, 400, /NUL/),
  hosted({ Mounts: [{ Type: "bind", Source: "/nonexist", Target: "/d" }] }, 400, /bind source path does not exist/),
  hosted({ Mounts: [{ Type: "odd", Target: "/d" }] }, 400, /mount type unknown/),
  hosted({ Mounts: [{}] }, 400, /field Target must not be empty/),
  hosted({ Mounts: [null] }, 400, /Mounts\.0/),
  hosted({ Mounts: [{ Type: "tmpfs", Target: "/d", TmpfsOptions: { SizeBytes: -1 } }] }, 400, /tmpfs option size/),
  hosted({ Binds: ["ok1:/a"], VolumeDriver: "nodriver" }, 400, /volume plugin nodriver/),
  hosted({ Binds: ["ok1:/a", "x:/b"] }, 400, /volume name is too short/),
  hosted(
    { Binds: ["ok1:/a"], Mounts: [{ Type: "bind", Source: "/nonexist", Target: "/d" }] },
    400,
    /bind source path does not exist/,
  ),
  hosted(
    { Mounts: [{ Type: "volume", Source: "ok1", Target: "/d", VolumeOptions: { Subpath: "../x" } }] },
    400,
    /subpath must be a relative path/,
  ),
  hosted({ Tmpfs: { rel: "" } }, 400, /mount path must be absolute/),
  hosted({ Tmpfs: { "/d": "bogus" } }, 400, /Invalid tmpfs option/),
  hosted({ VolumesFrom: ["nobody"] }, 400, /^No such container: nobody/),
  hosted({ NetworkMode: "container:nobody" }, 400, /^No such container: nobody/),
  hosted({ PidMode: "odd" }, 501, /PID mode "odd" is not supported/),
  hosted({ IpcMode: "shareable" }, 501, /IPC mode "shareable" is not supported/),
  hosted({ UsernsMode: "x" }, 501, /user namespace mode/),
  hosted({ Runtime: "nope" }, 400, /unknown or invalid runtime name: nope/),
  hosted({ SecurityOpt: ["bogus"] }, 400, /invalid --security-opt: "bogus"/),
  hosted({ SecurityOpt: ["seccomp=not json"] }, 400, /seccomp profile failed/),
  hosted({ StorageOpt: { x: "1" } }, 400, /Unknown option x/),
  hosted({ PortBindings: { "80/tcp": [{ HostPort: "80" }] } }, 501, /publishing ports is not supported/),
  hosted({ Links: ["a"] }, 501, /links are not supported/),
  hosted({ DeviceRequests: [{}] }, 501, /--gpus/),
  hosted({ LogConfig: { Type: "syslog" } }, 501, /no log driver named 'syslog'/),
  hosted({ RestartPolicy: { Name: "odd" } }, 400, /unknown policy 'odd'/),
  hosted({ AutoRemove: true, RestartPolicy: { Name: "always" } }, 400, /AutoRemove/),
  hosted({ Ulimits: [{ Name: "nofile", Soft: 5, Hard: 1 }] }, 400, /less than or equal to hard limit/),
  hosted({ ExtraHosts: ["a\nb:1.2.3.4"] }, 400, /bad format for add-host/),
  hosted({ Dns: ["1.1.1.1\nx"] }, 400, /invalid IP address/),
  hosted({ CgroupParent: "a\0" }, 400, /NUL/),
  hosted({ Odd: 1 }, 501, /HostConfig\.Odd is not supported/),
];

const names: readonly BadRequest[] = [
  ...["a", "../x", "a/b", "a b", "a\nb", "a\0b", "x".repeat(300), "é", "-a", "/", "."].map(named),
  volume({ Name: 3 }, 400, /Name/),
  volume({ Name: "a/b" }, 400, /includes invalid characters/),
  volume({ Name: "../.." }, 400, /includes invalid characters/),
  volume({ Name: "x" }, 400, /volume name is too short/),
  volume({ Name: "a\0b" }, 400, /includes invalid characters/),
  volume({ Name: "v".repeat(300) }, 400, /create vvv/),
  volume({ Name: "v9", Driver: "nope" }, 404, /plugin "nope" not found/),
  volume({ Name: "v9", Driver: "../x" }, 404, /plugin "..\/x" not found/),
  volume({ Name: "v9", DriverOpts: { bogus: "1" } }, 400, /invalid option/),
  volume({ Name: "v9", DriverOpts: [] }, 400, /DriverOpts/),
  volume({ Name: "v9", Labels: { a: null } }, 400, /Labels/),
  network({}, 400, /Name/),
  network({ Name: "" }, 400, /network name cannot be empty/),
  network({ Name: "bridge" }, 403, /predefined bridge network/),
  network({ Name: "n9", Driver: "overlay" }, 404, /plugin "overlay" not found/),
  network({ Name: "n9", Options: { a: 1 } }, 400, /Options/),
  post("/images/bb/tag?repo=", 400, /^invalid reference format/),
  post("/images/bb/tag?repo=UPPER", 400, /must be lowercase/),
  post(`/images/bb/tag?repo=a&tag=${"t".repeat(129)}`, 400, /^invalid reference format/),
  post(`/images/bb/tag?repo=${"a".repeat(256)}`, 400, /must not be more than 255 characters/),
  post(`/images/bb/tag?repo=${"a".repeat(64)}`, 400, /64-byte hexadecimal/),
  post("/images/nosuch/tag?repo=x", 404, /^No such image/),
];

const routes: readonly BadRequest[] = [
  get("/nothing", 404, /^page not found/),
  get("/v1.99/info", 400, /client version 1\.99 is too new/),
  get("/v1.10/info", 400, /client version 1\.10 is too old/),
  get("/vx/info", 404, /^page not found/),
  get("//info", 404, /^page not found/),
  { method: "PATCH", path: "/info", status: 404, says: /^page not found/ },
  get("/containers/%zz/json", 400, /not a valid url component/),
  get("/containers/a%00b/json", 404, /^No such container/),
  get("/containers/..%2f..%2fetc/json", 404, /^No such container/),
  get("/containers/__proto__/json", 404, /^No such container/),
  get("/images/%2e%2e/json", 400, /^invalid reference format/),
  get("/images/bb/odd", 404, /^page not found/),
  get("/volumes/..%2f..", 404, /no such volume/),
  get("/networks/__proto__", 404, /network __proto__ not found/),
  get("/exec/..%2f/json", 404, /^No such exec instance/),
  remove("/containers/nobody", 404, /^No such container: nobody/),
  remove("/images/nosuch", 404, /^No such image: nosuch/),
  remove("/volumes/..%2f..", 404, /no such volume/),
  remove("/networks/bridge", 403, /pre-defined network/),
  post("/containers/nobody/start", 404, /^No such container/),
  post("/containers/nobody/exec", 404, /^No such container/, '{"Cmd":["x"]}'),
  post("/containers/nobody/attach?stream=1&stdout=1", 404, /^No such container/),
  post("/exec/nobody/start", 404, /^No such exec instance/),
  post("/exec/nobody/resize?h=1&w=1", 404, /^No such exec instance/),
  post("/commit", 404, /^No such container/),
  post("/networks/bridge/connect", 400, /Container/, "{}"),
  post("/images/create?fromImage=bb", 501, /pull is not supported/),
  post("/images/create?fromSrc=%2Fetc%2Fpasswd", 501, /send the archive itself/),
  post("/auth", 501, /login is not supported/, "{}"),
];

const queries: readonly BadRequest[] = [
  get("/containers/json?limit=x", 400, /invalid value for limit/),
  get("/containers/json?limit=1e99", 400, /invalid value for limit/),
  post("/containers/nobody/stop?t=x", 400, /invalid value for t/),
  post("/containers/nobody/resize?h=x&w=1", 400, /invalid value for h/),
  post("/containers/nobody/resize?h=1", 400, /both h and w/),
  get("/events?since=x", 400, /invalid value for since/),
  get("/system/df?type=odd", 400, /unknown object type/),
  get("/images/get", 400, /give names=/),
  get("/images/get?names=nosuch", 404, /^No such image: nosuch/),
  ...["x", "[]", "3", '{"label":3}', '{"label":[{}]}', '{"label":{"a":"true"}}', '{"label":{"a":false}}'].flatMap(
    (filters) => [
      get(filtered("/containers/json", filters), 400, /^invalid (value for )?filters/),
      post(filtered("/containers/prune", filters), 400, /^invalid (value for )?filters/),
    ],
  ),
  ...["bogus", "constructor", "__proto__", "toString"].flatMap((name) => [
    ...["/containers/json", "/images/json", "/volumes", "/networks", "/events"].map((path) =>
      get(filtered(path, `{"${name}":["x"]}`), 400, /^invalid filter/),
    ),
    ...["/containers/prune", "/images/prune", "/volumes/prune", "/networks/prune"].map((path) =>
      post(filtered(path, `{"${name}":["x"]}`), 400, /^invalid filter/),
    ),
  ]),
  get(filtered("/containers/json", { status: ["odd"] }), 400, /^invalid filter 'status=odd'/),
  get(filtered("/containers/json", { exited: ["x"] }), 400, /^invalid filter 'exited=x'/),
  get(filtered("/containers/json", { expose: ["x"] }), 400, /^invalid filter 'expose=x'/),
  get(filtered("/containers/json", { name: ["("] }), 400, /^invalid filter 'name=\('/),
  get(filtered("/containers/json", { name: ["(a+)+$"] }), 400, /use a simpler pattern/),
  get(filtered("/containers/json", { before: ["nobody"] }), 404, /^No such container/),
  get(filtered("/images/json", { dangling: ["x"] }), 400, /^invalid filter/),
  get(filtered("/images/json", { reference: ["["] }), 400, /^syntax error in pattern/),
  get(filtered("/images/json", { until: ["x"] }), 400, /failed to parse value as time/),
  post(filtered("/containers/prune", { until: ["x"] }), 400, /^invalid filter 'until=x'/),
];

const builds: readonly BadRequest[] = [
  post("/build", 400, /Cannot locate specified Dockerfile/),
  post("/build?remote=x", 501, /send the context itself/),
  post("/build?version=2", 501, /DOCKER_BUILDKIT=0/),
  post("/build?buildargs=x", 400, /invalid value for buildargs/),
  post("/build?buildargs=%5B%5D", 400, /expected object of strings/),
  post("/build?labels=3", 400, /expected object of strings/),
  post("/build?t=UPPER", 400, /must be lowercase/),
  post("/build?memory=x", 400, /invalid value for memory/),
];

/** Of an exec in the running container `name`. */
export const badExecs = (name: string): readonly BadRequest[] => {
  const exec = (body: unknown, says: RegExp): BadRequest =>
    post(`/containers/${name}/exec`, 400, says, typeof body === "string" ? body : JSON.stringify(body));
  return [
    exec({}, /^No exec command specified/),
    exec({ Cmd: [] }, /^No exec command specified/),
    exec({ Cmd: [1] }, /Cmd/),
    exec({ Cmd: ["a\0"] }, /NUL/),
    exec({ Cmd: ["x".repeat(70_000)] }, /too long/),
    exec({ Cmd: ["true"], Env: "A" }, /Env/),
    exec({ Cmd: ["true"], User: 3 }, /User/),
    exec({ Cmd: ["true"], WorkingDir: `/${"d".repeat(5000)}` }, /too long/),
    exec('{"Cmd":["true"]', /^invalid JSON/),
    get(`/containers/${name}/logs`, 400, /at least one stream/),
    get(`/containers/${name}/logs?stdout=1&tail=x`, 400, /invalid value for tail/),
    get(`/containers/${name}/archive`, 400, /'path' cannot be empty/),
    get(`/containers/${name}/archive?path=/nowhere`, 404, /Could not find the file \/nowhere/),
    get(`/containers/${name}/archive?path=/a%00b`, 400, /NUL|invalid/),
    get(`/containers/${name}/top?ps_args=-e%3Bid`, 400, /unsupported/),
    post(`/containers/${name}/kill?signal=odd`, 400, /[Ii]nvalid signal: odd/),
    post(`/containers/${name}/kill?signal=0`, 400, /[Ii]nvalid signal: 0/),
    post(`/containers/${name}/rename?name=a%2Fb`, 400, /^Invalid container name/),
    post(`/containers/${name}/rename?name=`, 400, /name/),
    post(`/containers/${name}/update`, 400, /Minimum memory limit/, '{"Memory":1}'),
    post(`/containers/${name}/update`, 501, /ShmSize of a container cannot be updated/, '{"ShmSize":1}'),
    post(`/containers/${name}/wait?condition=odd`, 400, /invalid condition/),
    post(`/containers/${name}/attach?stream=1&detachKeys=ctrl-%21`, 400, /[Ii]nvalid detach keys/),
    post(`/containers/${name}/start?checkpoint=x`, 501, /checkpoints are not supported/),
    post(`/commit?container=${name}&repo=UPPER`, 400, /must be lowercase/),
    post(`/commit?container=${name}&changes=FOO%20bar`, 400, /FOO/i),
    remove(`/containers/${name}`, 409, /is running|cannot remove/),
  ];
};

export const badRequests: readonly BadRequest[] = [
  ...bodies,
  ...configs,
  ...hostConfigs,
  ...names,
  ...routes,
  ...queries,
  ...builds,
];
