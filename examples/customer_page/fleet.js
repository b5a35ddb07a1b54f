// GraphQL for a page: operations over fetch, and subscriptions over one socket (graphql-transport-ws) that go on after every cut.
import { token } from "./login.js";
import { SERVER } from "./settings.js";

const AGAIN_MS = 1000; // and up to as much more, so that not every page comes back at the same moment
const NOT_GOOD_ANY_MORE = 4401;

/** The data of a query or mutation. Throws the first error as a sentence; a mutation's own errors are in its payload. */
export async function ask(query, variables = {}) {
  const answered = await fetch(`${SERVER}/graphql`, {
    method: "POST",
    headers: { "Content-Type": "application/json", Authorization: `Bearer ${await token()}` },
    body: JSON.stringify({ query, variables }),
  });
  const { data, errors } = await answered.json();
  if (errors) throw new Error(errors[0].message);
  return data;
}

/** Subscriptions with a cursor: each goes on behind the last message seen, so that nothing is lost while the socket is away. */
export class Live {
  #streams = new Map();
  #count = 0;
  #socket = null;
  #isReady = false;

  constructor(ended) {
    this.ended = ended; // called with a sentence when it makes no sense to go on
  }

  /** Call `seen` with each message of the one field of `query`, which takes `$after` and answers `cursor`. */
  follow(query, variables, seen) {
    const id = String(++this.#count);
    this.#streams.set(id, { query, variables, seen });
    if (this.#isReady) this.#subscribe(id);
    else if (this.#socket === null) this.#open();
  }

  close() {
    this.#streams.clear();
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.close(1000); // one that is not open yet closes when it is
  }

  #open() {
    const socket = this.#socket = new WebSocket(`${SERVER.replace("http", "ws")}/graphql`, "graphql-transport-ws");
    socket.onopen = async () => {
      if (this.#streams.size === 0) return socket.close(1000);
      try {
        this.#say({ type: "connection_init", payload: { authorization: `Bearer ${await token()}` } });
      } catch (refused) {
        this.#streams.clear();
        socket.close(1000);
        this.ended(refused.message);
      }
    };
    socket.onmessage = ({ data }) => this.#heard(JSON.parse(data));
    socket.onclose = ({ code }) => {
      this.#isReady = false;
      this.#socket = null;
      if (code === NOT_GOOD_ANY_MORE) this.ended("Log in again.");
      else if (this.#streams.size > 0) setTimeout(() => this.#socket ?? this.#open(), AGAIN_MS * (1 + Math.random()));
    };
  }

  #heard(said) {
    if (said.type === "connection_ack") {
      this.#isReady = true;
      for (const id of this.#streams.keys()) this.#subscribe(id);
    } else if (said.type === "ping") {
      this.#say({ type: "pong" });
    } else if (said.type === "next") {
      const stream = this.#streams.get(said.id);
      if (said.payload.errors) this.#end(said.id, said.payload.errors[0].message);
      else if (stream) this.#seen(stream, Object.values(said.payload.data)[0]);
    } else if (said.type === "error") {
      this.#end(said.id, said.payload[0].message);
    } else if (said.type === "complete") {
      this.#streams.delete(said.id);
    }
  }

  #seen(stream, message) {
    stream.variables = { ...stream.variables, after: message.cursor };
    stream.seen(message);
  }

  #end(id, sentence) {
    this.#streams.delete(id);
    this.ended(sentence);
  }

  #subscribe(id) {
    const { query, variables } = this.#streams.get(id);
    this.#say({ id, type: "subscribe", payload: { query, variables } });
  }

  #say(message) {
    if (this.#socket?.readyState === WebSocket.OPEN) this.#socket.send(JSON.stringify(message));
  }
}
