/** Networks as the API shows them, and the body of `POST /networks/create`. */
import { z } from "zod";
import type { Network, NetworkUser, NewNetwork } from "../../network/store.ts";

const texts = z.record(z.string(), z.string()).nullish();

export const createBody = z.looseObject({
  Name: z.string(),
  Driver: z.string().nullish(),
  Internal: z.boolean().nullish(),
  Attachable: z.boolean().nullish(),
  Ingress: z.boolean().nullish(),
  ConfigOnly: z.boolean().nullish(),
  EnableIPv6: z.boolean().nullish(),
  IPAM: z.record(z.string(), z.unknown()).nullish(),
  Options: texts,
  Labels: texts,
});

export function newNetwork(body: z.infer<typeof createBody>): NewNetwork {
  return {
    name: body.Name,
    driver: body.Driver ?? "",
    internal: body.Internal ?? false,
    attachable: body.Attachable ?? false,
    enableIPv6: body.EnableIPv6 ?? false,
    options: body.Options ?? {},
    labels: body.Labels ?? {},
    ipam: body.IPAM ?? {},
  };
}

/** Lists show no users; inspect does. */
export function networkJson(network: Network, users: readonly NetworkUser[] = []): object {
  const endpoint = { EndpointID: "", MacAddress: "", IPv4Address: "", IPv6Address: "" };
  return {
    Name: network.name,
    Id: network.id,
    Created: network.created,
    Scope: "local",
    Driver: network.driver,
    EnableIPv6: network.enableIPv6,
    IPAM: { Driver: "default", Options: null, Config: null, ...network.ipam },
    Internal: network.internal,
    Attachable: network.attachable,
    Ingress: false,
    ConfigFrom: { Network: "" },
    ConfigOnly: false,
    Containers: Object.fromEntries(users.map(({ id, name }) => [id, { Name: name, ...endpoint }])),
    Options: network.options,
    Labels: network.labels,
  };
}
