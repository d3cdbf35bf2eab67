// The agent's desk: polls the threads once a second and draws what changed. Text goes in by textContent only.
"use strict";

const byId = (id) => document.getElementById(id);
const token = new URLSearchParams(location.hash.slice(1)).get("token"); // open "/#token=…" when one is needed
let threads = [];
let chosen = null;
let drawn = "";

async function call(method, path, body) {
  const headers = {};
  if (token) headers.Authorization = `Bearer ${token}`;
  if (body !== undefined) headers["Content-Type"] = "application/json";
  const answer = await fetch(path, { method, headers, body: body === undefined ? undefined : JSON.stringify(body) });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.message || `HTTP ${answer.status}`);
  return data;
}

function make(tag, text, className) {
  const node = document.createElement(tag);
  if (text !== undefined) node.textContent = text;
  if (className) node.className = className;
  return node;
}

function problem(error) {
  byId("problem").hidden = !error;
  byId("problem").textContent = error ? error.message : "";
}

function customerOf(thread) {
  return thread.customer.name || thread.customer.deliveryIdentifier.value;
}

function agentName(actorId) {
  const option = [...byId("agent").options].find((one) => one.value === actorId);
  return option ? option.textContent : actorId;
}

function drawList() {
  byId("empty").hidden = threads.length > 0;
  byId("threads").replaceChildren(...[...threads].reverse().map((thread) => {
    const row = make("li");
    const button = make("button");
    button.type = "button";
    button.setAttribute("aria-current", String(thread.id === chosen));
    const texts = thread.messages.filter((message) => message.text);
    button.append(make("strong", customerOf(thread)));
    button.append(make("span", texts.length ? texts[texts.length - 1].text : "…"));
    const state = thread.purged ? "deleted" : thread.archived ? "archived" : thread.status.toLowerCase();
    button.append(make("span", `${state} · ${thread.assignedTo ? agentName(thread.assignedTo) : "unassigned"}`));
    button.addEventListener("click", () => { chosen = thread.id; drawn = ""; draw(); });
    row.append(button);
    return row;
  }));
}

function bubble(thread, message) {
  if (message.type === "ASSIGNMENT") {
    return make("li", message.assignedTo ? `Assigned to ${agentName(message.assignedTo)}` : "Unassigned", "event");
  }
  if (message.type === "THREAD_STATUS_CHANGE") {
    return make("li", message.newStatus === "CLOSED" ? "Closed" : "Reopened", "event");
  }
  const note = message.type === "COMMENT";
  const mine = message.direction === "OUTGOING";
  const item = make("li", undefined, note ? "note" : mine ? "mine" : "");
  const author = note || mine ? agentName(message.createdBy) : customerOf(thread);
  const time = new Date(message.createdAt).toLocaleTimeString();
  item.append(make("small", `${note ? "Note by " : ""}${author} · ${time}`));
  if (message.text) item.append(make("div", message.text));
  for (const file of message.attachments || []) {
    const line = make("div");
    const safe = file.url && /^https?:\/\//.test(file.url);
    const label = `📎 ${file.name || file.fileId || file.type}`;
    const link = make(safe ? "a" : "span", label);
    if (safe) { link.href = file.url; link.rel = "noopener"; }
    line.append(link);
    item.append(line);
  }
  const status = message.status || {};
  if (status.statusType === "FAILED") {
    item.append(make("small", `Not delivered: ${(status.failureDetails || {}).errorMessage || "no reason given"}`, "failed"));
  } else if (mine) {
    item.append(make("small", (status.statusType || "").toLowerCase()));
  }
  return item;
}

function draw() {
  drawList();
  const thread = threads.find((one) => one.id === chosen);
  byId("conversation").hidden = !thread;
  byId("choose").hidden = Boolean(thread);
  if (!thread) return;
  byId("title").textContent = customerOf(thread);
  const who = thread.customer.deliveryIdentifier.value;
  byId("facts").textContent = `${who} · contact ${thread.associatedContactId} · thread ${thread.id}`;
  const open = thread.status === "OPEN" && !thread.archived;
  const possible = {
    assign: !thread.archived, unassign: Boolean(thread.assignedTo), close: open,
    reopen: thread.status === "CLOSED", archive: !thread.archived, restore: thread.archived && !thread.purged,
  };
  for (const button of byId("verbs").children) button.disabled = !possible[button.dataset.verb];
  const list = byId("messages");
  const atEnd = list.scrollTop + list.clientHeight >= list.scrollHeight - 40 || !drawn;
  list.replaceChildren(...thread.messages.map((message) => bubble(thread, message)));
  if (atEnd) list.scrollTop = list.scrollHeight;
}

async function poll() {
  try {
    if (!byId("agent").options.length) {
      for (const agent of await call("GET", "/_sim/agents")) {
        const option = make("option", agent.name);
        option.value = agent.id;
        byId("agent").append(option);
      }
    }
    threads = await call("GET", "/_sim/threads");
    problem(null);
    const now = JSON.stringify(threads, (key, value) => (key === "url" ? undefined : value));
    if (now !== drawn) { draw(); drawn = now; }
  } catch (error) {
    problem(error);
  }
}

async function act(verb, body) {
  if (!chosen) return false;
  try {
    await call("POST", `/_sim/threads/${encodeURIComponent(chosen)}/${verb}`, { actorId: byId("agent").value, ...body });
    await poll();
    return true;
  } catch (error) {
    problem(error);
    return false;
  }
}

async function attached() {
  const file = byId("file").files[0];
  if (!file) return [];
  const bytes = new Uint8Array(await file.arrayBuffer());
  let binary = "";
  for (const byte of bytes) binary += String.fromCharCode(byte);
  return [{ name: file.name, contentType: file.type || "application/octet-stream", content: btoa(binary) }];
}

async function send(verb) {
  const text = byId("text").value;
  const attachments = await attached();
  if (!text.trim() && !attachments.length) return;
  if (await act(verb, { text, attachments })) {
    byId("text").value = "";
    byId("file").value = "";
  }
}

byId("verbs").addEventListener("click", (event) => {
  if (event.target.dataset.verb) act(event.target.dataset.verb, {});
});
byId("composer").addEventListener("submit", (event) => { event.preventDefault(); send("reply"); });
byId("note").addEventListener("click", () => send("comment"));
byId("text").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey) { event.preventDefault(); send("reply"); }
});
poll();
setInterval(poll, 1000);
