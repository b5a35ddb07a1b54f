// mercurius with its compiler on, and its own batching loaders.
import Fastify from "fastify";
import mercurius from "mercurius";
import { digestOf, firmwaresOf, ownersOf, resolvers, store, typeDefs } from "./schema.mjs";

const rows = await store();
const app = Fastify();
app.register(mercurius, {
  schema: typeDefs,
  resolvers,
  loaders: {
    Device: {
      firmware: { loader: (queries) => firmwaresOf(queries.map(({ obj }) => obj), rows), opts: { cache: false } },
      owner: { loader: (queries) => ownersOf(queries.map(({ obj }) => obj), rows), opts: { cache: false } },
    },
  },
  context: (request) => ({ rows, digest: digestOf(request.headers.authorization) }),
  jit: 1,
});
await app.listen({ port: Number(process.env.PORT), host: "127.0.0.1" });
