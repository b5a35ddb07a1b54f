// What both Node servers serve: one subscription, and a second port where each message is an event to publish.
import { WebSocketServer } from 'ws';

export const typeDefs = `
  type Query { ok: Boolean }
  type Event { id: ID! deviceId: ID! name: String! data: String ttl: Int! publishedAt: String! cursor: String! }
  type Subscription { events(productId: Int!): Event! }
`;

export const event = (data) => ({
  id: '01HZX3V9Q7',
  deviceId: '55ff6d04498b490123456789',
  name: 'telemetry/temperature',
  data,
  ttl: 60,
  publishedAt: '2026-11-21T20:48:00.123Z',
  cursor: 'AAECAwQFBgcAAAAAAAAAewAAAAA',
});

export function publishing(act) {
  return new Promise((resolve) => {
    const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false }, () => resolve(server.address().port));
    server.on('connection', (socket) => socket.on('message', (data) => act(event(data.toString()))));
  });
}
