/** Networks as the API shows them, who is on one, and the body of `POST /networks/create`. */
import * as v from "valibot";
import { anyMap, looseObject, textMap } from "../../base/shape.ts";
import type { Container } from "../../container/container.ts";
import type { Network, NewNetwork } from "../../network/store.ts";
import { networkModeOf } from "./container-json.ts";
import { refuse } from "./respond.ts";

const texts = v.nullish(textMap);

export const createBody = looseObject({
  Name: v.string(),
  Driver: v.nullish(v.string()),
  Internal: v.nullish(v.boolean()),
  IPAM: v.nullish(anyMap),
  Options: texts,
  Labels: texts,
});

/** What an endpoint may ask, with how the CLI says it; none of it would have an effect without a network's traffic. */
const endpointOptions: Readonly<Record<string, string>> = {
  IPAMConfig: "addresses of one's own (--ip, --ip6, --link-local-ip)",
  MacAddress: "MAC addresses (--mac-address)",
  Links: "links (--link)",
  DriverOpts: "driver options of an endpoint (--driver-opt)",
};

/** Throws unsupported for what would be accepted and ignored. */
export function refuseEndpointOptions(endpoint: Readonly<Record<string, unknown>>): void {
  for (const [member, what] of Object.entries(endpointOptions))
    if (asksSomething(endpoint[member])) refuse(`${what} are not supported: networks carry no traffic; leave them out`);
}

function asksSomething(value: unknown): boolean {
  if (typeof value === "object" && value !== null) return Object.values(value).some(asksSomething);
  return value !== undefined && value !== null && value !== "";
}

export function newNetwork(body: v.InferOutput<typeof createBody>): NewNetwork {
  return {
    name: body.Name,
    driver: body.Driver ?? undefined,
    internal: body.Internal ?? false,
    options: body.Options ?? {},
    labels: body.Labels ?? {},
    ipam: body.IPAM ?? {},
  };
}

/** The containers on a network: made with it, or connected since. */
export function usersOf(network: Network, containers: readonly Container[]): readonly Container[] {
  const names = [network.name, network.id];
  return containers.filter((container) => {
    if (network.containers.includes(container.id)) return true;
    const mode = networkModeOf(container);
    const own = [mode === "default" ? "bridge" : mode, ...Object.keys(container.networks)];
    return own.some((name) => names.includes(name));
  });
}

/** Lists show no users; inspect does. */
export function networkJson(network: Network, users: readonly Container[] = []): object {
  const endpoint = { EndpointID: "", MacAddress: "", IPv4Address: "", IPv6Address: "" };
  return {
    Name: network.name,
    Id: network.id,
    Created: network.created,
    Scope: "local",
    Driver: network.driver,
    EnableIPv6: false,
    IPAM: { Driver: "default", Options: null, Config: null, ...network.ipam },
    Internal: network.internal,
    Attachable: false,
    Ingress: false,
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: Object.fromEntries(users.map(({ id, name }) => [id, { Name: name, ...endpoint }])),
    Options: network.options,
    Labels: network.labels,
  };
}
