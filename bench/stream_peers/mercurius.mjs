// mercurius on fastify, with its own emitter.
import Fastify from 'fastify';
import mercurius from 'mercurius';
import { publishing, typeDefs } from './schema.mjs';

const app = Fastify();
app.register(mercurius, {
  schema: typeDefs,
  resolvers: { Subscription: { events: { subscribe: (_root, _args, { pubsub }) => pubsub.subscribe('EVENTS') } } },
  subscription: { fullWsTransport: true },
  jit: 1,
});
await app.ready();
const publish = await publishing((event) => app.graphql.pubsub.publish({ topic: 'EVENTS', payload: { events: event } }));
await app.listen({ port: 0, host: '127.0.0.1' });
console.log(JSON.stringify({ port: app.server.address().port, publish }));
