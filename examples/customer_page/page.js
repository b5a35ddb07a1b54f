// The page: who is logged in, their devices with a switch each, and what becomes of them while one looks.
import { ask, Live } from "./fleet.js";
import { comeBack, logIn, logOut } from "./login.js";

const DEVICES = `{ viewer { devices(first: 100) { nodes { deviceId name online functions product { productId } } } } }`;
const CALL = `mutation Call($input: CallFunctionInput!) { callFunction(input: $input) { returnValue errors { message } } }`;
const READ = `mutation Read($input: ReadVariableInput!) { readVariable(input: $input) { value errors { message } } }`;
const PRESENCE = `subscription Presence($device: DeviceID!, $after: Cursor) {
  deviceStatus(deviceId: $device, after: $after) { cursor device { online functions } }
}`;
const SAID = `subscription Said($product: Int!, $device: DeviceID!, $after: Cursor) {
  events(productId: $product, deviceId: $device, namePrefix: "led", after: $after) { cursor event { name data } }
}`;

const page = Object.fromEntries(["log-in", "log-out", "said", "devices", "device"].map((id) => [id, document.getElementById(id)]));
const live = new Live((sentence) => say(sentence, true));

function say(sentence, isWrong = false) {
  page.said.textContent = sentence;
  page.said.classList.toggle("wrong", isWrong);
}

/** Run it, and tell of what goes wrong. */
async function attempt(act) {
  try {
    await act();
  } catch (wrong) {
    say(wrong.message, true);
  }
}

function shown(isLoggedIn) {
  page["log-in"].hidden = isLoggedIn;
  page["log-out"].hidden = !isLoggedIn;
}

async function show() {
  const { viewer } = await ask(DEVICES);
  page.devices.replaceChildren(...viewer.devices.nodes.map(row));
  say(viewer.devices.nodes.length === 0 ? "You have no devices yet." : "");
}

function row(device) {
  const item = page.device.content.firstElementChild.cloneNode(true);
  const lever = item.querySelector(".switch");
  item.dataset.id = device.deviceId;
  item.querySelector(".name").textContent = device.name ?? device.deviceId;
  lever.ariaLabel = `Light of ${device.name ?? device.deviceId}`;
  lever.onclick = () => attempt(() => toggle(device, lever));
  follow(item, device, lever);
  return item;
}

/** The switch shows what the device says, never what was only asked of it; until that is known nobody can turn it. */
function follow(item, { deviceId, product, ...listed }, lever) {
  let device = listed, state = null, isHeard = false;
  const isThere = () => device.online && device.functions.includes("led");
  const show = () => {
    item.querySelector(".presence").textContent = device.online ? "online" : "offline";
    lever.ariaChecked = String(state === "on");
    lever.disabled = state === null || !isThere();
  };
  const hear = (after) => live.follow(SAID, { device: deviceId, product: product.productId, after }, ({ event }) => {
    if (event?.name !== "led") return;
    state = event.data;
    show();
  });
  const read = async () => {
    const { value } = await done(READ, { deviceId, name: "led" });
    state ??= value; // what it has said meanwhile is newer
    show();
  };
  live.follow(PRESENCE, { device: deviceId }, (message) => {
    device = message.device ?? device;
    show();
    if (!isHeard) hear(message.cursor); // read behind this place: what is said in between is not missed
    isHeard = true;
    if (state === null && isThere()) attempt(read);
  });
  show();
}

async function toggle({ deviceId }, lever) {
  say("");
  await done(CALL, { deviceId, name: "led", argument: lever.ariaChecked === "true" ? "off" : "on" });
}

async function done(mutation, input) {
  const [payload] = Object.values(await ask(mutation, { input }));
  if (payload.errors.length > 0) throw new Error(payload.errors[0].message);
  return payload;
}

page["log-in"].onclick = () => attempt(logIn);
page["log-out"].onclick = () => attempt(async () => {
  live.close();
  await logOut();
  page.devices.replaceChildren();
  shown(false);
  say("You are logged out.");
});

shown(false);
await attempt(async () => {
  const isLoggedIn = await comeBack();
  shown(isLoggedIn);
  if (isLoggedIn) await show();
});
