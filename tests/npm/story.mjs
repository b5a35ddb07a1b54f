// What every client is put through, the same for each: pages of a list, a mutation, a refusal, a live event. Prints what it saw as JSON.
// Arguments: the URL of the GraphQL endpoint, a token, the number of a product with devices.
import { createClient } from 'graphql-ws';
import WebSocket from 'ws';

const [url, token, number] = process.argv.slice(2);

// Each name begins with "story", as Relay's compiler asks of documents in a module of that name.
export const DOCUMENTS = {
  devices: `query storyDevicesQuery($product: Int!, $first: Int!, $after: Cursor) {
    product(productId: $product) { id name devices(first: $first, after: $after, orderBy: DEVICE_ID) {
      edges { cursor node { id deviceId online groups { path } } } pageInfo { hasNextPage endCursor } totalCount } } }`,
  rename: `mutation storyRenameMutation($input: UpdateDeviceInput!) {
    updateDevice(input: $input) { device { id name } errors { code path } } }`,
  publish: `mutation storyPublishMutation($input: PublishEventInput!) { publishEvent(input: $input) { event { id name } errors { code } } }`,
  events: `subscription storyEventsSubscription($product: Int!) { events(productId: $product) { cursor event { id name data } } }`,
};

// The socket client that Apollo's, urql's and Relay's own documentation use.
export function socketClient(address, authorization) {
  return createClient({ url: address.replace(/^http/, 'ws'), webSocketImpl: WebSocket, connectionParams: { authorization } });
}

// `open({url, token})` gives {query, codes, mutate, subscribe, close}; `codes` are those of an answer's errors.
export async function story(open) {
  const client = open({ url, token });
  const product = Number(number);
  const seen = { pages: [], devices: [] };
  for (let after = null, more = true; more; ) {
    const { devices } = (await client.query(DOCUMENTS.devices, { product, first: 25, after })).product;
    seen.pages.push(devices.edges.length);
    seen.devices.push(...devices.edges.map((edge) => edge.node.deviceId));
    seen.total = devices.totalCount;
    ({ hasNextPage: more, endCursor: after } = devices.pageInfo);
  }
  const [deviceId] = seen.devices;
  const rename = async (name) => (await client.mutate(DOCUMENTS.rename, { input: { deviceId, name } })).updateDevice;
  seen.renamed = (await rename('by the client')).device.name;
  seen.refused = (await rename('x'.repeat(5000))).errors.map(({ code, path }) => ({ code, path }));
  seen.codes = await client.codes(DOCUMENTS.devices, { product, first: 1000 });
  const heard = new Promise((resolve) => {
    client.subscribe(DOCUMENTS.events, { product }, ({ events }) => resolve(events.event.name));
  });
  // There is no sign of a stream having begun in these clients: publish until it is heard.
  const publishing = setInterval(() => client.mutate(DOCUMENTS.publish, { input: { productId: product, name: 'hello' } }), 200);
  seen.heard = await heard;
  clearInterval(publishing);
  await client.close();
  process.stdout.write(JSON.stringify(seen), () => process.exit(0));
}
