// Which server, and which app of its product: what createOAuthClient answered.
export const SERVER = "http://127.0.0.1:8000";
export const CLIENT_ID = "";
