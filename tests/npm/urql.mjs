// urql's client, unmodified, with graphql-ws for subscriptions, through the story of story.mjs.
import { Client, cacheExchange, fetchExchange, subscriptionExchange } from '@urql/core';
import { socketClient, story } from './story.mjs';

await story(({ url, token }) => {
  const authorization = `Bearer ${token}`;
  const sockets = socketClient(url, authorization);
  const forwardSubscription = (request) => ({
    subscribe: (sink) => ({ unsubscribe: sockets.subscribe({ ...request, query: request.query ?? '' }, sink) }),
  });
  const client = new Client({
    url,
    preferGetMethod: false,
    fetchOptions: { headers: { authorization } },
    exchanges: [cacheExchange, fetchExchange, subscriptionExchange({ forwardSubscription })],
  });
  const data = (result) => {
    if (result.error) throw result.error;
    return result.data;
  };
  return {
    query: async (text, variables) => data(await client.query(text, variables, { requestPolicy: 'network-only' }).toPromise()),
    codes: async (text, variables) => {
      const { error } = await client.query(text, variables, { requestPolicy: 'network-only' }).toPromise();
      return (error?.graphQLErrors ?? []).map((each) => each.extensions.code);
    },
    mutate: async (text, variables) => data(await client.mutation(text, variables).toPromise()),
    subscribe: (text, variables, heard) => client.subscription(text, variables).subscribe((result) => heard(data(result))),
    close: () => sockets.dispose(),
  };
});
