// Apollo Client, unmodified, with its persisted-query link and graphql-ws beside HTTP, through the story of story.mjs.
import { ApolloClient, ApolloLink, CombinedGraphQLErrors, HttpLink, InMemoryCache, gql } from '@apollo/client';
import { GraphQLWsLink } from '@apollo/client/link/subscriptions';
import { PersistedQueryLink } from '@apollo/client/link/persisted-queries';
import { OperationTypeNode } from 'graphql';
import { createHash } from 'node:crypto';
import { socketClient, story } from './story.mjs';

await story(({ url, token }) => {
  const authorization = `Bearer ${token}`;
  const sha256 = (text) => createHash('sha256').update(text).digest('hex');
  const http = ApolloLink.from([new PersistedQueryLink({ sha256 }), new HttpLink({ uri: url, headers: { authorization } })]);
  const sockets = socketClient(url, authorization);
  const client = new ApolloClient({
    link: ApolloLink.split(({ operationType }) => operationType === OperationTypeNode.SUBSCRIPTION, new GraphQLWsLink(sockets), http),
    cache: new InMemoryCache(),
  });
  const told = (error) => {
    if (!CombinedGraphQLErrors.is(error)) throw error;
    return error.errors.map((each) => each.extensions.code);
  };
  return {
    async query(text, variables) {
      return (await client.query({ query: gql(text), variables, fetchPolicy: 'network-only' })).data;
    },
    async codes(text, variables) {
      return client.query({ query: gql(text), variables, fetchPolicy: 'network-only' }).then(() => [], told);
    },
    async mutate(text, variables) {
      return (await client.mutate({ mutation: gql(text), variables })).data;
    },
    subscribe(text, variables, heard) {
      client.subscribe({ query: gql(text), variables }).subscribe({ next: ({ data }) => heard(data) });
    },
    close: () => sockets.dispose(),
  };
});
