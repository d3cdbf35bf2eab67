// The user's side of the chat: asks for news, shows them, and posts what the user does.
//
// It asks once a second and keeps no connection open, so it works with any number of server processes and any kind
// of them, and a restart of the server is nothing but a few questions without an answer.

import { bubble, face } from "./bubbles.js";
import { byId, keepEnd } from "./design/dom.js";

const routes = document.body.dataset;
const composer = byId("composer");
const log = byId("log");
const followEnd = keepEnd(log);
const PAUSE_MS = 1000;
const LONGEST_PAUSE_MS = 4000;

const STATES = {
  bot: { face: "bot", says: () => "Our bot is answering" },
  starting: { face: "wait", says: () => "Calling our team …" },
  waiting: { face: "wait", says: () => "Waiting for our team …" },
  assigned: { face: "agent", says: (operator) => `${operator || "Our team"} is answering` },
};

let last = null; // the newest line shown
let asking = null;
let failures = 0;
let calling = false; // whether the form for a person is open
let seen = 0; // the newest line of an agent's that the user has really seen
let told = 0; // … that the server has been told of

// --- what the server has

/** Ask for what is new; one question at a time. */
function ask() {
  asking ??= look().finally(() => { asking = null; });
  return asking;
}

async function look() {
  try {
    const answer = await fetch(`${routes.messages}?after=${last ? last.number : 0}`);
    if (!answer.ok) throw new Error(answer.statusText);
    show(await answer.json());
    failures = 0;
  } catch {
    failures += 1;
    byId("state").textContent = "No connection. Trying again …";
    document.body.dataset.state = "offline";
  }
}

function show({ messages, state, operator, standing }) {
  log.setAttribute("aria-busy", String(last === null)); // what was said before is not news to a screen reader
  for (const entry of messages) {
    const item = bubble(entry, last);
    byId("messages").append(item);
    if (entry.speaker === "agent") watch.observe(item.querySelector(".bubble"));
    last = entry;
  }
  log.removeAttribute("aria-busy");
  followEnd(messages.some((entry) => entry.speaker === "user"));
  const now = STATES[state] || STATES.waiting;
  const says = now.says(operator);
  if (byId("state").textContent !== says) {
    byId("state").textContent = says;
    byId("face").replaceChildren(face(operator || "Our team", now.face));
  }
  document.body.dataset.state = state;
  const withBot = state === "bot";
  if (!withBot) calling = false;
  byId("human").hidden = !(withBot && calling);
  byId("hints").hidden = !withBot || calling || Boolean(last);
  byId("call-button").hidden = !withBot || calling;
  byId("stop").hidden = withBot;
  const waits = (state === "waiting" || state === "starting") && standing.ahead !== null;
  byId("place").hidden = !waits;
  if (waits) renewText(byId("place"), place(standing));
  byId("rating").hidden = !(withBot && standing.may_rate) || calling;
}

function place({ ahead, estimate }) {
  const before = ahead === 0 ? "You are next" : ahead === 1 ? "1 conversation before yours" : `${ahead} conversations before yours`;
  return estimate === null ? before : `${before}, about ${Math.max(1, Math.round(estimate / 60))} min`;
}

function renewText(node, text) {
  if (node.textContent !== text) node.textContent = text; // what is the same is not said again by a screen reader
}

// --- what the user has really seen: it is in view, and so is the page

const watch = new IntersectionObserver((entries) => {
  for (const { isIntersecting, target } of entries) {
    if (!isIntersecting) continue;
    seen = Math.max(seen, Number(target.closest("li").dataset.number));
    watch.unobserve(target);
  }
  tellSeen();
}, { root: log });

async function tellSeen() {
  const number = seen;
  if (number <= told || document.visibilityState !== "visible") return;
  try {
    const answer = await fetch(routes.seen, { method: "POST", body: new URLSearchParams({ number }) });
    if (answer.ok) told = Math.max(told, number);
  } catch {
    // no connection: told with one of the next questions
  }
}

async function keepAsking() {
  await ask();
  await tellSeen();
  const pause = document.visibilityState === "hidden" ? LONGEST_PAUSE_MS : PAUSE_MS * (failures + 1);
  setTimeout(keepAsking, Math.min(pause, LONGEST_PAUSE_MS));
}

document.addEventListener("visibilitychange", async () => { await ask(); await tellSeen(); });

// --- what the user does

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

async function post(url, body) {
  complain("");
  try {
    const answer = await fetch(url, { method: "POST", body });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    await asking; // a question from before does not know of this yet
    await ask();
    return found;
  } catch (error) {
    const lost = error instanceof TypeError || error instanceof SyntaxError;
    complain(lost ? "No connection; your message is still here. Please send it again." : error.message);
    return null;
  }
}

// What was sent and is not taken yet, in order; and what could not be sent while more was being written: it goes first.
const waiting = [];
const unsent = [];

// The id of what came back stays the same until it was taken, so that sending it again is never a second message.
let messageId = null;
const newId = () => Date.now().toString(36) + "-" + Math.random().toString(36).slice(2).padEnd(8, "0");

/** Send what is written, behind what could not be sent before; the box is free at once. */
function send() {
  const { text, file } = composer.elements;
  const messages = unsent.splice(0);
  if (text.value.trim() || file.files.length) {
    messages.push({ text: text.value, file: file.files[0], id: messageId ?? newId() });
    messageId = null;
    composer.reset();
    showFile();
  }
  messages.forEach(deliver);
}

/** Post a message when all before it was taken; what can't be posted is put back. */
async function deliver(message) {
  waiting.push(message);
  if (waiting.length > 1) return; // it is posted below, when its turn comes
  while (waiting.length) {
    const body = new FormData();
    for (const [name, value] of Object.entries(waiting[0])) if (value) body.append(name, value);
    const found = await post(routes.messages, body);
    if (!found) break;
    waiting.shift();
    if (found.wants_human) call(true);
  }
  if (waiting.length) putBack(waiting.splice(0));
}

/** Put a message back into the box; or, when more was written since, keep all as they are for the next time. */
function putBack(messages) {
  const { text, file } = composer.elements;
  if (messages.length > 1 || text.value || file.files.length) {
    unsent.push(...messages);
    const names = messages.map((one) => one.text || one.file.name).join(" · ");
    complain(`${byId("problem").textContent} Not sent yet: ${names}`);
    return;
  }
  const [message] = messages;
  messageId = message.id;
  text.value = message.text;
  if (message.file) {
    const data = new DataTransfer();
    data.items.add(message.file);
    file.files = data.files;
  }
  showFile();
}

function showFile() {
  const file = composer.elements.file.files[0];
  byId("chosen").hidden = !file;
  byId("file-name").textContent = file ? file.name : "";
}

function call(yes) {
  calling = yes;
  byId("human").hidden = !yes;
  byId("hints").hidden = yes || Boolean(last);
  byId("call-button").hidden = yes;
  if (yes) tellAvailability();
  const { text } = composer.elements;
  const writesOn = document.activeElement === text && text.value; // the form must not get what is typed into the message
  (yes && !writesOn ? byId("human").elements.contact : text).focus();
}

/** Say before somebody asks for a person that nobody is there, and when somebody is back. */
async function tellAvailability() {
  let nobody = null;
  try {
    nobody = (await (await fetch(routes.availability)).json()).nobody;
  } catch {
    // not known: that is no reason to turn anybody away
  }
  byId("nobody").textContent = nobody || "";
  byId("nobody").hidden = !nobody;
}

composer.addEventListener("submit", (event) => { event.preventDefault(); send(); });
composer.addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.name === "text") {
    event.preventDefault();
    send();
  }
});
composer.addEventListener("input", () => { messageId = null; }); // what is written now is another message
composer.elements.file.addEventListener("change", () => { showFile(); composer.elements.text.focus(); });
byId("remove").addEventListener("click", () => {
  composer.elements.file.value = "";
  messageId = null;
  showFile();
  composer.elements.text.focus();
});
byId("hints").addEventListener("click", (event) => {
  if (event.target.tagName === "BUTTON" && !waiting.length) deliver({ text: event.target.textContent, id: newId() });
});
byId("call-button").addEventListener("click", () => call(true));
byId("never-mind").addEventListener("click", () => call(false));
byId("human").addEventListener("keydown", (event) => { if (event.key === "Escape") call(false); });
byId("human").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await post(routes.human, new FormData(event.target))) composer.elements.text.focus();
});
const rate = async (body) => {
  if (!await post(routes.rating, body)) return;
  byId("rating").reset();
  composer.elements.text.focus();
};
byId("rating").addEventListener("submit", (event) => { event.preventDefault(); rate(new FormData(event.target)); });
byId("no-rating").addEventListener("click", () => rate(new FormData()));
byId("stop").addEventListener("click", async () => {
  await post(routes.stop, new FormData());
  composer.elements.text.focus();
});

keepAsking();
