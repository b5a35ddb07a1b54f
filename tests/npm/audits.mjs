// The audits of GraphQL over HTTP, unmodified: prints one JSON line for each. Argument: the url. A GET carries the header that
// protection against forged requests asks for.
import { serverAudits } from 'graphql-http';

const [url] = process.argv.slice(2);
const fetchFn = (address, init = {}) =>
  init.method === 'POST' ? fetch(address, init) : fetch(address, { ...init, headers: { ...init.headers, 'GraphQL-Preflight': '1' } });
for (const audit of serverAudits({ url, fetchFn })) {
  const { status, reason } = await audit.fn();
  process.stdout.write(`${JSON.stringify({ id: audit.id, name: audit.name, status, reason })}\n`);
}
