// The agent's desk: keeps what is chosen, asks for what the server has, has it drawn, and does what the agent does.

import { call, follow } from "./api.js";
import { ago, byId, make, renew, unmasked } from "./dom.js";
import { drawInbox, shown } from "./inbox.js";
import { drawThread } from "./thread.js";
import { drawWire } from "./wire.js";

const state = {
  data: { agents: [], threads: [], thread: null, wire: [] },
  chosen: new URLSearchParams(location.search).get("thread"),
  filter: "open",
  scope: "thread",
};
const drafts = new Map(); // thread id -> { text, files, mode }
const me = byId("me");
const composer = byId("composer");

// --- what the server has

let loading = null;
let again = false;

/** Ask for everything and draw it; calls that come meanwhile are one more round. */
function refresh() {
  again = true;
  loading ??= (async () => {
    try {
      while (again) {
        again = false;
        const asked = state.chosen;
        const data = await call("GET", `/_sim/desk?${new URLSearchParams({ thread: asked || "", wire: state.scope })}`);
        if (asked !== state.chosen) continue; // another one was chosen meanwhile, which asks again
        announce(state.data.threads, data.threads);
        state.data = data;
        if (asked && !data.thread) choose(null); // gone: a reset, or a new start of the stand-in
        else draw();
        if (again) await new Promise((resolve) => setTimeout(resolve, 100)); // under load, not without a pause
      }
    } catch (error) {
      if (byId("live").dataset.on) notice(error);
    } finally {
      loading = null;
    }
  })();
  return loading;
}

function draw() {
  const { agents, threads, thread, wire } = state.data;
  const portals = new Set(agents.map((one) => one.portalId)).size;
  renew(me, agents, (one) => `${one.portalId}/${one.id}`, (one) =>
    make("option", { value: one.id }, unmasked(one.name || one.id) + (portals > 1 ? ` (${one.portalId})` : "")));
  const mine = sessionStorage.getItem("me");
  if (mine && agents.some((one) => one.id === mine)) me.value = mine;
  drawInbox(threads, { filter: state.filter, me: me.value, chosen: state.chosen }, choose);
  drawThread(thread, agents, me.value);
  drawWire(wire, `${state.scope} ${thread?.id}`, notice);
  if (thread?.unread && document.visibilityState === "visible" && inView("thread")) {
    act(`/_sim/desk/threads/${thread.id}/seen`, {});
  }
}

function announce(before, now) {
  const had = new Map(before.map((thread) => [thread.id, thread.unread]));
  const news = now.filter((thread) => thread.unread > (had.get(thread.id) ?? 0) && thread.id !== state.chosen);
  if (news.length) byId("announce").textContent = `New message from ${news.map((thread) => unmasked(thread.customer)).join(", ")}`;
}

let noticed = null;

function notice(error, text) {
  clearTimeout(noticed);
  byId("notice").textContent = error ? error.message : text;
  byId("notice").className = error ? "bad" : "";
  byId("notice").hidden = false;
  noticed = setTimeout(() => { byId("notice").hidden = true; }, 6000);
}

function connected(yes) {
  byId("live").textContent = yes ? "Live" : "Reconnecting …";
  byId("live").dataset.on = yes ? "yes" : "";
}

// --- what is chosen, and which part a small screen shows

const inView = (view) => document.body.dataset.view === view || getComputedStyle(byId("back")).display === "none";

function choose(id, { push = true } = {}) {
  keepDraft();
  state.chosen = id;
  document.body.dataset.view = id ? "thread" : "inbox";
  if (push) history.pushState(null, "", id ? `?thread=${encodeURIComponent(id)}${location.hash}` : `${location.pathname}${location.hash}`);
  takeDraft();
  return refresh();
}

function showPanel(yes) {
  document.body.dataset.view = yes ? "panel" : "thread";
  document.body.classList.toggle("no-panel", !yes);
  byId("panel-button").setAttribute("aria-expanded", String(yes));
}

window.addEventListener("popstate", () => choose(new URLSearchParams(location.search).get("thread"), { push: false }));
document.addEventListener("visibilitychange", refresh);
byId("back").addEventListener("click", () => choose(null));
byId("panel-button").addEventListener("click", () => showPanel(byId("panel").offsetParent === null));
byId("panel-back").addEventListener("click", () => { document.body.dataset.view = "thread"; });
byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("text").focus(); });
byId("filters").addEventListener("click", (event) => {
  const button = event.target.closest("button");
  if (button) { state.filter = button.dataset.filter; draw(); }
});
for (const radio of document.getElementsByName("scope")) {
  radio.addEventListener("change", () => { state.scope = radio.value; refresh(); });
}
me.addEventListener("change", () => { sessionStorage.setItem("me", me.value); draw(); });
setInterval(() => {
  for (const time of document.querySelectorAll("[data-since]")) time.textContent = ago(Number(time.dataset.since));
}, 10_000);

// --- what the agent does

async function act(path, body) {
  try {
    await call("POST", path, body);
    await refresh();
    return true;
  } catch (error) {
    notice(error);
    return false;
  }
}

/** A verb on the chosen thread, as the agent at this desk if the thread is in their account. */
function verb(name, more = {}) {
  const { thread, agents } = state.data;
  if (!thread || thread.id !== state.chosen) return false;
  const here = agents.some((one) => one.id === me.value && one.portalId === thread.portalId);
  return act(`/_sim/threads/${encodeURIComponent(thread.id)}/${name}`, { ...(here ? { actorId: me.value } : {}), ...more });
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-verb]");
  if (button) {
    byId("more").open = false;
    if (button.dataset.verb !== "purge" || confirm("Delete this conversation for good?")) verb(button.dataset.verb);
  } else if (!event.target.closest("#more")) {
    byId("more").open = false;
  }
});
byId("owner").addEventListener("change", () => {
  const id = byId("owner").value;
  if (id) verb("assign", { actorId: id });
  else verb("unassign");
});

// --- writing

let files = [];

const mode = () => composer.elements.mode.value;

function keepDraft() {
  if (state.chosen) drafts.set(state.chosen, { text: byId("text").value, files, mode: mode() });
}

function takeDraft(as = "reply") {
  const draft = drafts.get(state.chosen) || { text: "", files: [], mode: as };
  byId("text").value = draft.text;
  files = draft.files;
  setMode(draft.mode);
  drawFiles();
}

function setMode(value) {
  composer.elements.mode.value = value;
  composer.classList.toggle("noting", value === "comment");
  byId("text").placeholder = value === "comment" ? "Only agents see this" : "Write to the visitor";
  byId("send-label").textContent = value === "comment" ? "Add note" : "Send";
}

function drawFiles() {
  byId("chosen").replaceChildren(...files.map((file) => {
    const remove = make("button", { type: "button", title: "Take it away" }, "×");
    remove.addEventListener("click", () => { files = files.filter((one) => one !== file); drawFiles(); byId("text").focus(); });
    return make("li", { className: "file" }, make("bdi", {}, unmasked(file.name)), remove);
  }));
}

function addFiles(more) {
  files = [...files, ...more];
  drawFiles();
}

const inBase64 = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => reject(new Error(`${file.name} can't be read`));
  reader.readAsDataURL(file);
});

let sending = false;

async function send() {
  const text = byId("text").value;
  if (sending || !(text.trim() || files.length)) return;
  sending = true;
  try {
    const attachments = await Promise.all(files.map(async (file) =>
      ({ name: file.name, contentType: file.type || "application/octet-stream", content: file.size ? await inBase64(file) : "" })));
    const sent = state.chosen;
    if (await verb(mode(), { text, attachments })) {
      drafts.delete(sent);
      if (state.chosen === sent) takeDraft(mode());
    }
  } catch (error) {
    notice(error);
  } finally {
    sending = false;
  }
}

composer.addEventListener("submit", (event) => { event.preventDefault(); send(); });
composer.addEventListener("change", (event) => { if (event.target.name === "mode") setMode(mode()); });
byId("file").addEventListener("change", (event) => { addFiles(event.target.files); event.target.value = ""; byId("text").focus(); });
byId("text").addEventListener("paste", (event) => { if (event.clipboardData.files.length) addFiles(event.clipboardData.files); });
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
});

// --- single keys

const keys = byId("keys");
keys.checked = localStorage.getItem("keys") !== "off";
keys.addEventListener("change", () => localStorage.setItem("keys", keys.checked ? "on" : "off"));
byId("help-button").addEventListener("click", () => byId("help").showModal());

function step(by) {
  const list = shown(state.data.threads, state.filter, me.value);
  const place = list.findIndex((thread) => thread.id === state.chosen);
  const next = list[Math.min(Math.max(place + by, 0), list.length - 1)];
  if (next) choose(next.id);
}

function write(as) {
  setMode(as);
  byId("text").focus();
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  r: () => write("reply"),
  n: () => write("comment"),
  a: () => verb("assign"),
  u: () => verb("unassign"),
  e: () => verb(state.data.thread?.status === "CLOSED" ? "reopen" : "close"),
  w: () => showPanel(byId("panel").offsetParent === null),
  "?": () => byId("help").showModal(),
  Escape: () => {
    if (document.body.dataset.view === "panel" && byId("panel-back").offsetParent) document.body.dataset.view = "thread";
    else choose(null);
  },
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || byId("help").open) return;
  const typing = event.target.matches("input:not([type=radio], [type=checkbox]), textarea, select");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || (!keys.checked && event.key !== "Escape")) return;
  const does = KEYS[event.key];
  if (does) { event.preventDefault(); does(); }
});

if (state.chosen) document.body.dataset.view = "thread";
takeDraft();
follow("/_sim/desk/live", refresh, connected);
