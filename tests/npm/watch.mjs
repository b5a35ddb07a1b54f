// The standard npm client, unmodified: subscribes and prints one JSON line for each message. Arguments: url, token, query, variables.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token, query, variables] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: { authorization: `Bearer ${token}` },
  on: { connected: () => say({ connected: true }) },
});
client.subscribe(
  { query, variables: JSON.parse(variables) },
  {
    next: (message) => say(message),
    error: (error) => say({ error: Array.isArray(error) ? error.map((each) => each.message) : String(error.reason ?? error) }),
    complete: () => say({ complete: true }),
  },
);
