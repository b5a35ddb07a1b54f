// Logging in over OAuth 2.0, for a page that can keep no secret: authorization code with PKCE (RFC 9700, RFC 7636).
import { CLIENT_ID, SERVER } from "./settings.js";

const HERE = location.origin + location.pathname;
const SCOPES = "devices:read devices:call events:read";
const EARLY_MS = 30_000; // before its end, an access token is exchanged

let access = null; // {token, endsAt}: in memory alone; the refresh token lives as long as the tab
let exchanging = null;

/** Leave for the server's log-in page. */
export async function logIn() {
  const server = await metadata();
  const begun = { state: random(), verifier: random() };
  sessionStorage.setItem("begun", JSON.stringify(begun));
  const asked = new URLSearchParams({
    response_type: "code", client_id: CLIENT_ID, redirect_uri: HERE, scope: SCOPES, state: begun.state,
    code_challenge: await challenge(begun.verifier), code_challenge_method: "S256",
  });
  location.assign(`${server.authorization_endpoint}?${asked}`);
}

/** Take up a log-in that comes back in the address, or one from before a reload: whether somebody is logged in. */
export async function comeBack() {
  const answer = new URLSearchParams(location.search);
  if (!answer.has("state")) return sessionStorage.getItem("refresh") !== null;
  history.replaceState(null, "", HERE); // a code does not belong into the history
  const begun = JSON.parse(sessionStorage.getItem("begun"));
  sessionStorage.removeItem("begun");
  if (answer.get("state") !== begun?.state || answer.get("iss") !== (await metadata()).issuer) {
    throw new Error("This is no answer to a log-in that was begun here.");
  }
  if (answer.get("error") === "access_denied") throw new Error("You did not allow it.");
  if (answer.has("error")) throw new Error(answer.get("error_description") ?? answer.get("error"));
  await exchange({ grant_type: "authorization_code", code: answer.get("code"), redirect_uri: HERE, code_verifier: begun.verifier });
  return true;
}

/** A good access token. Every refresh token is good once, so of several who ask at once one exchanges it. */
export async function token() {
  if (access === null || Date.now() > access.endsAt - EARLY_MS) {
    const spent = { grant_type: "refresh_token", refresh_token: sessionStorage.getItem("refresh") ?? "" };
    exchanging ??= exchange(spent).finally(() => { exchanging = null; });
    await exchanging;
  }
  return access.token;
}

/** End the refresh token at the server, and with it everything that came of this log-in. */
export async function logOut() {
  const server = await metadata(), refresh = sessionStorage.getItem("refresh");
  forget();
  if (refresh !== null) await post(server.revocation_endpoint, { token: refresh });
}

async function exchange(form) {
  const answered = await post((await metadata()).token_endpoint, form);
  const said = await answered.json();
  if (!answered.ok) {
    if (said.error === "invalid_grant") forget();
    throw new Error(`Log in again (${said.error_description ?? said.error}).`);
  }
  access = { token: said.access_token, endsAt: Date.now() + said.expires_in * 1000 };
  sessionStorage.setItem("refresh", said.refresh_token);
}

function post(url, form) {
  return fetch(url, { method: "POST", body: new URLSearchParams({ client_id: CLIENT_ID, ...form }) });
}

function forget() {
  access = null;
  sessionStorage.removeItem("refresh");
}

let known = null;
function metadata() {
  known ??= fetch(`${SERVER}/.well-known/oauth-authorization-server`).then((answered) => answered.json());
  return known;
}

function random() {
  return base64url(crypto.getRandomValues(new Uint8Array(32)));
}

async function challenge(verifier) {
  return base64url(new Uint8Array(await crypto.subtle.digest("SHA-256", new TextEncoder().encode(verifier))));
}

function base64url(bytes) {
  return btoa(String.fromCharCode(...bytes)).replaceAll("+", "-").replaceAll("/", "_").replaceAll("=", "");
}
