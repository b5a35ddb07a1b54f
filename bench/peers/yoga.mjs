// graphql-yoga as its guide has it, with DataLoaders.
import { createServer } from "node:http";
import DataLoader from "dataloader";
import { createSchema, createYoga } from "graphql-yoga";
import { digestOf, firmwaresOf, ownersOf, resolvers, store, typeDefs } from "./schema.mjs";

const rows = await store();
const Device = {
  ...resolvers.Device,
  firmware: (device, _, { firmwares }) => firmwares.load(device),
  owner: (device, _, { owners }) => owners.load(device),
};
const yoga = createYoga({
  schema: createSchema({ typeDefs, resolvers: { ...resolvers, Device } }),
  logging: false,
  context: ({ request }) => ({
    rows,
    digest: digestOf(request.headers.get("authorization")),
    firmwares: new DataLoader((devices) => firmwaresOf(devices, rows)),
    owners: new DataLoader((devices) => ownersOf(devices, rows)),
  }),
});
createServer(yoga).listen(Number(process.env.PORT), "127.0.0.1");
