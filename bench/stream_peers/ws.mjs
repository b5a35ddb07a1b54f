// Node's `ws` alone: what is published is written to each subscriber in a frame with its operation id. No GraphQL, nobody asked who may.
import { WebSocketServer } from 'ws';
import { event, publishing } from './schema.mjs';

const listeners = new Map();
const server = new WebSocketServer({ port: 0, host: '127.0.0.1', perMessageDeflate: false }, async () => {
  const publish = await publishing((data) => {
    const tail = `,"type":"next","payload":${JSON.stringify({ data: { events: data } })}}`;
    for (const [socket, id] of listeners) socket.send(`{"id":${id}${tail}`);
  });
  console.log(JSON.stringify({ port: server.address().port, publish }));
});
server.on('connection', (socket) => {
  socket.on('message', (text) => {
    const { id, type } = JSON.parse(text);
    if (type === 'connection_init') socket.send('{"type":"connection_ack"}');
    else listeners.set(socket, JSON.stringify(id));
  });
  socket.on('close', () => listeners.delete(socket));
});
