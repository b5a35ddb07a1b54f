// Relay's runtime, unmodified, with what Relay's compiler makes of our schema and the story's documents, through the story of story.mjs.
import { spawnSync } from 'node:child_process';
import { cpSync, mkdirSync, mkdtempSync, rmSync, writeFileSync } from 'node:fs';
import { createRequire } from 'node:module';
import { tmpdir } from 'node:os';
import path from 'node:path';
import { fileURLToPath } from 'node:url';
import relay from 'relay-runtime';
import { DOCUMENTS, socketClient, story } from './story.mjs';

const { Environment, Network, Observable, RecordSource, Store, commitMutation, fetchQuery, requestSubscription } = relay;
const HERE = path.dirname(fileURLToPath(import.meta.url));

// The compiler's artifact of each document, by its text.
function compiled() {
  const project = mkdtempSync(path.join(tmpdir(), 'story-'));
  try {
    const texts = Object.values(DOCUMENTS);
    mkdirSync(path.join(project, 'made'));
    cpSync(path.join(HERE, '..', '..', 'schema', 'schema.graphql'), path.join(project, 'schema.graphql'));
    writeFileSync(path.join(project, 'story.js'), texts.map((text) => `graphql\`${text}\`;`).join('\n'));
    const settings = { src: '.', schema: 'schema.graphql', language: 'javascript', artifactDirectory: 'made' };
    writeFileSync(path.join(project, 'relay.config.json'), JSON.stringify(settings));
    const compiler = path.join(HERE, 'node_modules', 'relay-compiler', 'cli.js');
    const ran = spawnSync(process.execPath, [compiler, 'relay.config.json'], { cwd: project, encoding: 'utf8' });
    if (ran.status !== 0) throw new Error(`relay-compiler: ${ran.stdout}${ran.stderr}`);
    const load = createRequire(path.join(project, 'story.js'));
    return new Map(texts.map((text) => [text, load(`./made/${/(story\w+)/.exec(text)[1]}.graphql.js`)]));
  } finally {
    rmSync(project, { recursive: true });
  }
}

await story(({ url, token }) => {
  const authorization = `Bearer ${token}`;
  const artifacts = compiled();
  const sockets = socketClient(url, authorization);
  let errors = [];
  const ask = async ({ text }, variables) => {
    const headers = { authorization, 'content-type': 'application/json' };
    const answer = await (await fetch(url, { method: 'POST', headers, body: JSON.stringify({ query: text, variables }) })).json();
    errors = answer.errors ?? [];
    return answer;
  };
  const watch = ({ text }, variables) => Observable.create((sink) => sockets.subscribe({ query: text, variables }, sink));
  const environment = new Environment({ network: Network.create(ask, watch), store: new Store(new RecordSource()) });
  const query = (text, variables) => fetchQuery(environment, artifacts.get(text), variables).toPromise();
  return {
    query,
    codes: async (text, variables) => {
      await query(text, variables).catch(() => {});
      return errors.map((each) => each.extensions.code);
    },
    mutate: (text, variables) =>
      new Promise((onCompleted, onError) => commitMutation(environment, { mutation: artifacts.get(text), variables, onCompleted, onError })),
    subscribe: (text, variables, onNext) => requestSubscription(environment, { subscription: artifacts.get(text), variables, onNext }),
    close: () => sockets.dispose(),
  };
});
