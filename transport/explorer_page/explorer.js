// The explorer's own part: queries and mutations over HTTP, subscriptions over graphql-transport-ws, one token for both.
"use strict";

(() => {
  const PATH = "/graphql";
  const TOKEN_KEY = "flotilla.token";
  const TOKEN_MUTATIONS = ["signUp", "logIn"]; // their answer holds the token the next calls want
  const KEPT = 25; // messages of a stream that stay on the page
  const FATAL_CLOSES = [1009, 1011, 4400, 4401, 4406, 4409, 4429];
  const byId = (id) => document.getElementById(id);

  // ── the token: in the box, in sessionStorage, nowhere else ──
  const token = {
    listeners: [],
    get value() { return byId("token").value.trim(); },
    set(text, note) {
      byId("token").value = text;
      byId("token-help").textContent = note || "Sent with queries and with subscriptions; kept in this browser tab only.";
      byId("token-help").classList.toggle("taken", Boolean(note));
      this.changed();
    },
    changed() {
      if (this.value === this.last) return;
      this.last = this.value;
      try { sessionStorage.setItem(TOKEN_KEY, this.value); } catch { /* private mode: kept in the page alone */ }
      this.listeners.forEach((listener) => listener());
    },
    get authorization() {
      if (!this.value) return null;
      return /^bearer /i.test(this.value) ? this.value : `Bearer ${this.value}`;
    },
  };

  function takeTokenFrom(answer) {
    for (const name of TOKEN_MUTATIONS) {
      const taken = answer?.data?.[name]?.token;
      if (typeof taken === "string") token.set(taken, `Taken from the answer of ${name}; the next calls are yours.`);
    }
  }

  // ── queries and mutations ──
  async function overHttp(params, headers) {
    const sent = { "content-type": "application/json", accept: "application/graphql-response+json, application/json;q=0.9", "graphql-preflight": "1" };
    if (token.authorization) sent.authorization = token.authorization;
    const response = await fetch(PATH, { method: "POST", headers: { ...sent, ...headers }, body: JSON.stringify(params) });
    const text = await response.text();
    try {
      const answer = JSON.parse(text);
      takeTokenFrom(answer);
      return answer;
    } catch {
      return { errors: [{ message: `The server answered ${response.status} ${response.statusText}`, extensions: { body: text.slice(0, 500) } }] };
    }
  }

  // ── subscriptions: one socket for all, opened with the first and closed with the last ──
  const streams = {
    socket: null, running: new Map(), next: 1, tries: 0, timer: 0,

    start(params, sink) {
      const id = String(this.next++);
      this.running.set(id, { params, sink });
      if (this.socket?.isReady) this.subscribe(id);
      else if (!this.socket && !this.timer) this.open();
      else show();
      return () => this.stop(id);
    },

    stop(id) {
      if (!this.running.delete(id)) return;
      if (this.socket?.isReady) this.socket.send(JSON.stringify({ id, type: "complete" }));
      this.rest();
    },

    rest() {
      if (this.running.size === 0) {
        clearTimeout(this.timer);
        this.timer = 0;
        this.socket?.close(1000);
        this.socket = null;
      }
      show();
    },

    open() {
      this.timer = 0;
      const address = new URL(PATH, location.href);
      address.protocol = address.protocol.replace("http", "ws");
      const socket = new WebSocket(address, "graphql-transport-ws");
      this.socket = socket;
      socket.isReady = false;
      socket.onopen = () => {
        const payload = token.authorization ? { authorization: token.authorization } : {};
        socket.send(JSON.stringify({ type: "connection_init", payload }));
      };
      socket.onmessage = (frame) => { if (socket === this.socket) this.hear(JSON.parse(frame.data)); };
      socket.onclose = (close) => { if (socket === this.socket) this.lost(close); };
      show();
    },

    hear({ type, id, payload }) {
      const operation = this.running.get(id);
      if (type === "connection_ack") {
        this.socket.isReady = true;
        this.tries = 0;
        for (const waiting of this.running.keys()) this.subscribe(waiting);
      } else if (type === "ping") {
        this.socket.send(JSON.stringify({ type: "pong", payload }));
      } else if (operation && type === "next") {
        operation.sink.next(payload);
      } else if (operation && (type === "error" || type === "complete")) {
        this.running.delete(id);
        if (type === "error") operation.sink.next({ errors: payload });
        operation.sink.complete();
        this.rest();
      }
      show();
    },

    subscribe(id) {
      const { query, variables, operationName } = this.running.get(id).params;
      this.socket.send(JSON.stringify({ id, type: "subscribe", payload: { query, variables, operationName } }));
    },

    lost(close) {
      this.socket = null;
      if (this.running.size === 0) return show();
      if (FATAL_CLOSES.includes(close.code)) return this.refuse(close);
      const pause = Math.min(30000, 500 * 2 ** this.tries++) * (0.75 + Math.random() / 2);
      this.timer = setTimeout(() => this.open(), pause);
      show();
    },

    refuse(close) {
      const message = `The socket was closed with ${close.code}: ${close.reason || "no reason given"}`;
      const ended = [...this.running.values()];
      this.running.clear();
      ended.forEach(({ sink }) => { sink.next({ errors: [{ message }] }); sink.complete(); });
      show(`Refused: ${close.reason || close.code}`);
    },

    restart() { // with the new token
      clearTimeout(this.timer);
      this.socket?.close(1000);
      this.socket = null;
      this.timer = 0;
      if (this.running.size) this.open();
      show();
    },
  };

  function show(refusal) {
    const count = streams.running.size;
    const live = count > 0 && streams.socket?.isReady;
    const state = refusal ? "refused" : live ? "live" : count ? "connecting" : "idle";
    byId("state").dataset.state = state;
    byId("state-text").textContent = refusal || {
      live: `Live: ${count} stream${count === 1 ? "" : "s"}`, connecting: streams.tries ? "Reconnecting…" : "Connecting…", idle: "No live stream",
    }[state];
  }

  // ── GraphiQL ──
  // Read from the text: without the schema, as before logging in, GraphiQL gives no parsed document.
  function isSubscription({ query, operationName }) {
    let text = query.replace(/"""[^]*?"""|"(?:\\.|[^"\\\n])*"|#.*/g, "");
    for (let before = ""; before !== text;) text = (before = text).replace(/\([^()]*\)|\{[^{}]*\}/g, ";");
    const operations = [...text.matchAll(/\b(query|mutation|subscription)\b\s*(\w*)/g)];
    return operations.some(([, kind, name]) => kind === "subscription" && (!operationName || name === operationName));
  }

  // GraphiQL would show the newest message alone; a stream is read as a list, the newest first.
  function listed(sink) {
    let received = 0;
    const latest = [];
    return {
      next(message) {
        latest.unshift(message.errors ? message : message.data);
        latest.length = Math.min(latest.length, KEPT);
        sink.next({ received: ++received, latest: [...latest] });
      },
      complete: () => sink.complete(),
    };
  }

  // A new function for each token: GraphiQL then reads the schema again, as the new viewer may see it.
  const fetcher = () => (params, { headers } = {}) => isSubscription(params)
    ? { subscribe: (sink) => ({ unsubscribe: streams.start(params, listed(sink)) }) }
    : overHttp(params, headers);

  const render = (examples) => ReactDOM.render(React.createElement(GraphiQL, {
    fetcher: fetcher(), defaultTabs: examples, shouldPersistHeaders: false, defaultEditorToolsVisibility: "variables",
  }), byId("explorer"));

  async function begin() {
    try { byId("token").value = sessionStorage.getItem(TOKEN_KEY) || ""; } catch { /* private mode */ }
    token.last = token.value;
    byId("token").addEventListener("change", () => token.set(token.value));
    byId("token-form").addEventListener("submit", (event) => { event.preventDefault(); token.set(token.value); });
    byId("token-clear").addEventListener("click", () => token.set(""));
    byId("token-show").addEventListener("click", ({ target }) => {
      const shown = byId("token").type === "password";
      byId("token").type = shown ? "text" : "password";
      target.textContent = shown ? "Hide" : "Show";
      target.setAttribute("aria-pressed", String(shown));
    });
    const answer = await fetch("/explorer/examples.json");
    const examples = (await answer.json()).map(({ query, variables }) => ({ query: query.replaceAll("{origin}", location.origin), variables }));
    token.listeners.push(() => streams.restart(), () => render(examples));
    render(examples);
  }

  begin();
})();
