// The standard npm client for server-sent events, unmodified: subscribes and prints one JSON line for each message.
// Arguments: url, token, query, variables.
import { createClient } from 'graphql-sse';

const [url, token, query, variables] = process.argv.slice(2);
const say = (line) => process.stdout.write(`${JSON.stringify(line)}\n`);
const client = createClient({
  url,
  headers: { authorization: `Bearer ${token}` },
  retryAttempts: 5,
  retry: () => new Promise((resolve) => setTimeout(resolve, 200)),
});
client.subscribe(
  { query, variables: JSON.parse(variables) },
  {
    next: (message) => say(message),
    error: (error) => say({ error: String(error) }),
    complete: () => say({ complete: true }),
  },
  { connected: () => say({ connected: true }) },
);
