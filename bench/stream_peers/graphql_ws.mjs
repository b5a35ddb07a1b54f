// graphql-ws on ws: the reference implementation of the protocol.
import { createServer } from 'node:http';
import { EventEmitter } from 'node:events';
import { buildSchema } from 'graphql';
import { useServer } from 'graphql-ws/use/ws';
import { WebSocketServer } from 'ws';
import { publishing, typeDefs } from './schema.mjs';

const bus = new EventEmitter().setMaxListeners(0);

async function* events() {
  const waiting = [];
  let wake = () => {};
  const hear = (event) => { waiting.push(event); wake(); };
  bus.on('event', hear);
  try {
    for (;;) {
      while (waiting.length) yield { events: waiting.shift() };
      await new Promise((resolve) => { wake = resolve; });
    }
  } finally {
    bus.off('event', hear);
  }
}

const http = createServer();
const wsServer = new WebSocketServer({ server: http, path: '/graphql', perMessageDeflate: false });
useServer({ schema: buildSchema(typeDefs), roots: { subscription: { events } } }, wsServer);
const publish = await publishing((event) => bus.emit('event', event));
http.listen(0, '127.0.0.1', () => console.log(JSON.stringify({ port: http.address().port, publish })));
