// The standard npm client, unmodified: subscribes and prints one JSON line for each message. Arguments: url, token, query, variables;
// and "resumes" to ask, when it comes back after a cut, for what comes after the last cursor it has heard, as our guide advises.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token, query, given, resumes] = process.argv.slice(2);
let variables = JSON.parse(given);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const client = createClient({
  url,
  webSocketImpl: WebSocket,
  connectionParams: { authorization: `Bearer ${token}` },
  shouldRetry: () => true, // or a server that goes away during the handshake is fatal, unlike one that goes away after it
  on: { connected: () => say({ connected: true }) },
});
client.subscribe(
  {
    query,
    get variables() {
      return variables; // read at each subscribe
    },
  },
  {
    next: (message) => {
      if (resumes && message.data) variables = { ...variables, after: Object.values(message.data)[0].cursor };
      say(message);
    },
    error: (error) => say({ error: Array.isArray(error) ? error.map((each) => each.message) : String(error.reason || error.message || error) }),
    complete: () => say({ complete: true }),
  },
);
