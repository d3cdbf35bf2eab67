// The agent's desk: keeps what is chosen, asks for what the server has, has it drawn, and does what the agent does.

import { beginning, drawBeginning } from "./begin.js";
import { call, connectNow, follow } from "./api.js";
import { compose, keepDraft, takeDraft, write } from "./composer.js";
import { ago, byId, confirmed, make, renew, unmasked } from "./design/dom.js";
import { beside, drawInbox, reveal } from "./inbox.js";
import { drawThread, onEdge, toNewest } from "./thread.js";
import { drawWire } from "./wire.js";

const PAUSE_MS = 100; // between two questions to the server, and never less than three times as long as one took
const SEARCH_PAUSE_MS = 150;
const NOTICE_MS = 8000;

const state = {
  data: { agents: [], machines: [], inboxes: [], threads: [], thread: null, wire: [], unread: 0, people: null, search: "", started: null },
  chosen: new URLSearchParams(location.search).get("thread"),
  until: null, // the messages shown end before this one; null: with the newest
  scope: "thread",
};
const me = byId("me");
const finding = byId("finding");
const searched = () => finding.elements.search.value.trim();

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
        const [asked, until, began] = [state.chosen, state.until, performance.now()];
        const query = { thread: asked || "", wire: state.scope, search: searched(), ...(until === null ? {} : { until }) };
        const data = await call("GET", `/_sim/desk?${new URLSearchParams(query)}`);
        if (asked !== state.chosen || until !== state.until) continue; // something else was chosen, which asks again
        take(data);
        const pause = Math.max(PAUSE_MS, 3 * (performance.now() - began));
        if (again) await new Promise((resolve) => setTimeout(resolve, pause)); // under load, not without a pause
      }
    } catch (error) {
      if (!error.away) notice(error); // that the server is away, the stream finds out and says
    } finally {
      loading = null;
    }
  })();
  return loading;
}

function take(data) {
  const before = state.data;
  announce(before, data);
  state.data = data;
  if (before.started !== null && before.started !== data.started) {
    notice(null, "The stand-in was started anew. It keeps nothing: what was here before is gone.");
  }
  if (state.chosen && !data.thread) choose(null); // gone: a reset, or a new start of the stand-in
  else draw();
}

function draw() {
  const { agents, thread, wire } = state.data;
  const portals = new Set(agents.map((one) => one.portalId)).size;
  renew(me, agents, (one) => `${one.portalId}/${one.id}`, (one) =>
    make("option", { value: one.id }, unmasked(one.name || one.id) + (portals > 1 ? ` (${one.portalId})` : "")));
  const mine = sessionStorage.getItem("me");
  if (mine && agents.some((one) => one.id === mine)) me.value = mine;
  drawList();
  drawBeginning(state.data.people);
  drawThread(thread, state.data, me.value);
  drawWire(wire, `${state.scope} ${thread?.id}`, notice);
  if (thread?.unread && document.visibilityState === "visible" && inView("thread")) {
    act(`/_sim/desk/threads/${thread.id}/seen`, {});
  }
}

function drawList() {
  const [filter, order] = [finding.elements.filter.value, finding.elements.order.value];
  drawInbox(state.data, { filter, order, me: me.value, chosen: state.chosen, search: state.data.search }, choose);
}

function announce(before, now) {
  if (before.search !== now.search) return; // others are listed, nobody has written
  const had = new Map(before.threads.map((thread) => [thread.id, thread.unread]));
  const news = now.threads.filter((thread) => thread.unread > (had.get(thread.id) ?? 0) && thread.id !== state.chosen);
  const names = news.slice(0, 3).map((thread) => unmasked(thread.customer)).join(", ");
  const more = news.length > 3 ? ` and ${news.length - 3} more` : "";
  if (news.length) byId("announce").textContent = `New message from ${names}${more}`;
}

// --- what is said above everything, and covers nothing

let noticed = null;

function notice(error, text) {
  clearTimeout(noticed);
  byId("notice").textContent = error ? error.message : text;
  byId("notice-strip").classList.toggle("bad", Boolean(error));
  byId("notice-strip").hidden = false;
  if (!error) noticed = setTimeout(hush, NOTICE_MS); // an error stays until something works, or it is dismissed
}

function hush() {
  byId("notice-strip").hidden = true;
}

function connected(yes) {
  byId("live").textContent = yes ? "Live" : "Reconnecting …";
  byId("live").dataset.on = yes ? "yes" : "";
  if (yes && !byId("away").hidden) byId("announce").textContent = "Connected again";
  byId("away").hidden = yes;
}

byId("dismiss").addEventListener("click", hush);
byId("try-now").addEventListener("click", connectNow);

// --- what is chosen, and which part a small screen shows

const inView = (view) => document.body.dataset.view === view || getComputedStyle(byId("back")).display === "none";

function choose(id, { push = true } = {}) {
  keepDraft(state.chosen);
  state.chosen = id;
  state.until = null;
  document.body.dataset.view = id ? "thread" : "inbox";
  if (push) history.pushState(null, "", id ? `?thread=${encodeURIComponent(id)}${location.hash}` : `${location.pathname}${location.hash}`);
  takeDraft(id);
  drawList();
  return refresh();
}

/** Go to the conversation so many below; the focus goes along when it is in the list. */
function step(by) {
  const inList = byId("threads").contains(document.activeElement);
  const next = beside(state.chosen, by);
  if (!next) return;
  choose(next);
  const button = reveal(next);
  if (inList) button?.focus();
}

function showPanel(yes) {
  document.body.dataset.view = yes ? "panel" : "thread";
  document.body.classList.toggle("no-panel", !yes);
  byId("panel-button").setAttribute("aria-expanded", String(yes));
}

window.addEventListener("popstate", () => choose(new URLSearchParams(location.search).get("thread"), { push: false }));
document.addEventListener("visibilitychange", () => { if (document.visibilityState === "visible") refresh(); });
byId("back").addEventListener("click", () => choose(null));
byId("panel-button").addEventListener("click", () => showPanel(byId("panel").offsetParent === null));
byId("panel-back").addEventListener("click", () => { document.body.dataset.view = "thread"; });
byId("skip").addEventListener("click", (event) => { event.preventDefault(); byId("text").focus(); });
for (const radio of document.getElementsByName("scope")) {
  radio.addEventListener("change", () => { state.scope = radio.value; refresh(); });
}
setInterval(() => {
  for (const time of document.querySelectorAll("[data-since]")) time.textContent = ago(Number(time.dataset.since));
}, 10_000);

onEdge((until) => { state.until = until; refresh(); });

// --- finding

let searching = null;

finding.addEventListener("submit", (event) => event.preventDefault());
finding.addEventListener("input", (event) => {
  if (event.target.type === "search") {
    clearTimeout(searching);
    searching = setTimeout(refresh, SEARCH_PAUSE_MS);
    return;
  }
  if (event.target === me) sessionStorage.setItem("me", me.value);
  byId("threads").scrollTop = 0;
  draw();
});
finding.elements.search.addEventListener("keydown", (event) => {
  if (event.key === "Escape" && event.target.value) {
    event.preventDefault();
    event.target.value = "";
    refresh();
  } else if (event.key === "Enter" || event.key === "ArrowDown") {
    event.preventDefault();
    const first = beside(null, 1);
    if (first) reveal(first)?.focus();
  }
});

// --- what the agent does

async function act(path, body) {
  try {
    const answer = await call("POST", path, body);
    if (byId("notice-strip").classList.contains("bad")) hush();
    refresh(); // not waited for: who writes on must not be held up
    return answer || true;
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
  if (name === "reply" || name === "comment") { // what one has written is seen
    state.until = null;
    toNewest();
  }
  return act(`/_sim/threads/${encodeURIComponent(thread.id)}/${name}`, { ...(here ? { actorId: me.value } : {}), ...more });
}

async function purge() {
  const name = unmasked(state.data.thread?.customer ?? "");
  const question = `Delete the conversation with ${name} for good?`;
  if (await confirmed(question, "All its messages are gone then, for everybody. This can't be undone.", "Delete for good")) verb("purge");
}

document.addEventListener("click", (event) => {
  const button = event.target.closest("[data-verb]");
  if (button || !event.target.closest("#more")) byId("more").open = false;
  if (button?.dataset.verb === "purge") purge();
  else if (button) verb(button.dataset.verb);
});
byId("owner").addEventListener("change", () => {
  const id = byId("owner").value;
  if (id) verb("assign", { actorId: id });
  else verb("unassign");
});
byId("place").addEventListener("change", () => {
  byId("more").open = false;
  verb("move", { inboxId: byId("place").value });
});
beginning({
  begin: async (to, text) => (await act("/_sim/threads/begin", { to, text, actorId: me.value })).id ?? null,
  choose,
});
compose({ chosen: () => state.chosen, verb, notice });

// --- single keys

const keys = byId("keys");
keys.checked = localStorage.getItem("keys") !== "off";
keys.addEventListener("change", () => localStorage.setItem("keys", keys.checked ? "on" : "off"));
byId("help-button").addEventListener("click", () => byId("help").showModal());

function back() {
  if (byId("more").open) {
    byId("more").open = false;
    byId("more").firstElementChild.focus();
  } else if (document.body.dataset.view === "panel" && byId("panel-back").offsetParent) {
    document.body.dataset.view = "thread";
  } else {
    choose(null);
  }
}

const KEYS = {
  j: () => step(1),
  k: () => step(-1),
  "/": () => finding.elements.search.select(),
  r: () => write("reply"),
  n: () => write("comment"),
  a: () => verb("assign"),
  u: () => verb("unassign"),
  e: () => verb(state.data.thread?.status === "CLOSED" ? "reopen" : "close"),
  w: () => showPanel(byId("panel").offsetParent === null),
  "?": () => byId("help").showModal(),
  Escape: back,
};

document.addEventListener("keydown", (event) => {
  if (event.ctrlKey || event.metaKey || event.altKey || event.defaultPrevented || document.querySelector("dialog[open]")) return;
  const typing = event.target.matches("input:not([type=radio], [type=checkbox]), textarea, select");
  if (typing && event.key === "Escape") event.target.blur();
  if (typing || (!keys.checked && event.key !== "Escape")) return;
  const does = KEYS[event.key];
  if (does) { event.preventDefault(); does(); }
});

if (state.chosen) document.body.dataset.view = "thread";
takeDraft(state.chosen);
follow("/_sim/desk/live", refresh, connected);
