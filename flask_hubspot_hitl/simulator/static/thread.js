// One conversation: its head, its bubbles with receipts and files, and the contact card. Of a long one a part is drawn;
// what is above or below is asked for when it is scrolled to.

import { address, avatar, byId, clock, copied, day, file, icon, keepEnd, linked, make, picture, renew, unmasked, whole } from "./design/dom.js";

const EDGE_PX = 300; // this near to an end of what is drawn, more is asked for
const PART = 100; // messages by which the part moves
const log = byId("log");
const list = byId("messages");
const follow = keepEnd(log);
let part = { first: 0, end: 0, total: 0 };
let edge = () => {};
let asked = null; // the end of the part that was asked for
let jump = false;

export function drawThread(thread, { agents, machines, inboxes }, me) {
  byId("thread").hidden = !thread;
  byId("choose").hidden = Boolean(thread);
  byId("panel").classList.toggle("bare", !thread);
  if (!thread) return;
  const open = thread.status === "OPEN" && !thread.archived;
  const name = unmasked(thread.customer);
  if (byId("title").textContent !== name) {
    byId("title").replaceChildren(make("bdi", { className: "cut" }, name));
    byId("who").replaceChildren(avatar(thread.customer, "customer"));
  }
  const state = thread.purged ? "Deleted" : thread.archived ? "In the trash" : open ? "Open" : "Closed";
  byId("facts").textContent = `${state} · ${thread.contact.inbox || "Inbox"} · thread ${thread.id}`;
  drawOwner(thread, agents, machines);
  drawPlace(thread, inboxes);
  const possible = {
    assign: !thread.archived && thread.assignedTo !== me, unassign: Boolean(thread.assignedTo) && !thread.archived, close: open,
    reopen: thread.status === "CLOSED" && !thread.archived, archive: !thread.archived,
    restore: thread.archived && !thread.purged, purge: !thread.purged,
  };
  const pressed = document.activeElement?.closest("[data-verb]");
  for (const button of document.querySelectorAll("[data-verb]")) button.hidden = !possible[button.dataset.verb];
  if (pressed?.hidden) log.focus({ preventScroll: true }); // or the next Tab would begin nowhere
  byId("composer").hidden = thread.archived;
  drawMessages(thread);
  drawContact(thread.contact, thread.integrationThreadId);
}

function drawPlace(thread, inboxes) {
  const place = byId("place");
  const choices = inboxes.filter((one) => one.portalId === thread.portalId);
  renew(place, choices, (one) => one.id, (one) => make("option", { value: one.id }, one.name));
  place.value = thread.inboxId;
  place.disabled = thread.archived;
}

function drawOwner(thread, agents, machines) {
  const owner = byId("owner");
  const choices = [{ id: "", name: "Nobody" }, ...agents.filter((one) => one.portalId === thread.portalId), ...machines];
  if (thread.assignedTo && !choices.some((one) => one.id === thread.assignedTo)) {
    choices.push({ id: thread.assignedTo, name: thread.assignee });
  }
  renew(owner, choices, (one) => one.id, (one) => make("option", { value: one.id }, unmasked(one.name || one.id)));
  owner.value = thread.assignedTo || "";
  owner.disabled = thread.archived;
}

// --- which part of the messages is drawn

/** Have `ask(until)` called when somebody scrolls beyond the part that is drawn; null is the part with the newest. */
export function onEdge(ask) {
  edge = ask;
}

/** The next time it is drawn, the newest message is in view. */
export function toNewest() {
  jump = true;
}

function look() {
  const live = part.end === part.total;
  byId("newest").hidden = live && follow.isAtEnd();
  if (asked !== null) return;
  if (log.scrollTop < EDGE_PX && part.first > 0) asked = part.first + PART;
  else if (!live && log.scrollTop + log.clientHeight > log.scrollHeight - EDGE_PX) asked = Math.min(part.end + PART, part.total);
  else return;
  follow.letGo();
  edge(asked === part.total ? null : asked);
}

log.addEventListener("scroll", look, { passive: true });
byId("newest").addEventListener("click", () => { toNewest(); edge(null); log.focus(); });

function drawMessages(thread) {
  const another = list.dataset.thread !== thread.id;
  if (another) list.replaceChildren();
  list.dataset.thread = thread.id;
  log.setAttribute("aria-busy", String(another || asked !== null)); // what was said before is not news to a screen reader
  const anchor = another ? null : [...list.children].find((item) => item.offsetTop + item.offsetHeight > log.scrollTop);
  const place = anchor ? { key: anchor.dataset.key, at: anchor.offsetTop - log.scrollTop } : null;
  renew(list, entries(thread.messages), (one) => one.id, (one) => entry(one, thread));
  part = { first: thread.first, end: thread.first + thread.messages.length, total: thread.total };
  asked = null;
  const still = place && list.querySelector(`[data-key="${CSS.escape(place.key)}"]`);
  if (still && !jump && !follow.isAtEnd()) log.scrollTop = still.offsetTop - place.at;
  if (part.end === part.total) follow(another || jump);
  jump = false;
  log.removeAttribute("aria-busy");
  look();
}

function entries(messages) {
  let last = null;
  let before = null;
  const items = [];
  for (const message of messages) {
    const date = day(message.createdAt);
    if (date !== before) items.push({ id: `day-${message.id}`, day: message.createdAt });
    before = date;
    const follows = items[items.length - 1] === last && last.type === message.type && last.createdBy === message.createdBy
      && last.author.name === message.author.name;
    items.push(Object.assign(message, { follows }));
    last = message;
  }
  return items;
}

// --- what is in it

function entry(one, thread) {
  if (one.day) return make("li", { className: "day" }, day(one.day));
  if (one.type === "MESSAGE" || one.type === "COMMENT") return bubble(one, thread);
  return make("li", { className: "event" }, make("bdi", {}, what(one)), " ", make("time", {}, clock(one.createdAt)));
}

function what(one) {
  const by = unmasked(one.author.name);
  if (one.type === "ASSIGNMENT" && one.assignedTo === one.createdBy) return `${by} took this`;
  if (one.type === "ASSIGNMENT") return one.assignee ? `${by} assigned this to ${unmasked(one.assignee)}` : `${by} unassigned this`;
  if (one.type === "THREAD_STATUS_CHANGE") return `${by} ${one.newStatus === "CLOSED" ? "closed" : "reopened"} this`;
  if (one.type === "THREAD_INBOX_CHANGE") return `${by} moved this to ${one.inbox}`;
  return `${one.type} by ${by}`;
}

function bubble(message, thread) {
  const note = message.type === "COMMENT";
  const mine = message.direction === "OUTGOING";
  const name = unmasked(message.author.name);
  const kind = note ? "note" : mine ? "outgoing" : message.summary ? "summary" : "incoming";
  const by = note ? `Internal note by ${name}` : message.summary ? `Summary by ${name}` : name;
  const item = make("li", { className: [kind, message.follows ? "follows" : ""].join(" ") });
  const drawing = message.author.side === "app" ? "wire" : null;
  item.append(
    avatar(message.author.name, message.author.side, drawing),
    make("small", { className: "by" }, make("bdi", {}, by), " ",
      make("time", { title: whole(message.createdAt) }, clock(message.createdAt))),
    make("div", { className: "bubble" },
      message.text ? make("p", { dir: "auto" }, ...linked(message.text)) : null,
      ...(message.attachments || []).map(attached),
      message.quoted ? make("div", { className: "row" }, copyButton(message.quoted)) : null),
  );
  if (mine && !note) item.append(receipt(message.status || {}, thread));
  return item;
}

/** Copies what a note quotes: a reply that a model has proposed, to be pasted and sent. */
function copyButton(quoted) {
  const button = make("button", { type: "button", className: "copy" }, icon("copy"), " Copy");
  button.addEventListener("click", async () => {
    if (await copied(quoted, button)) button.replaceChildren(icon("check"), " Copied");
  });
  return button;
}

function receipt(status, thread) {
  if (status.statusType === "FAILED") {
    const why = status.failureDetails?.errorMessage || "no reason given";
    return make("small", { className: "receipt bad" }, `Not delivered: ${unmasked(why)}`);
  }
  if (status.statusType === "READ") {
    return make("small", { className: "receipt" }, icon("check"), `Read by ${unmasked(thread.customer)}`);
  }
  return make("small", { className: "receipt" }, icon("check"), "Sent");
}

/** An attachment: a picture or a link, from our own origin if it is one of the stand-in's files. */
function attached(one) {
  const name = one.name || one.fileId || one.type;
  const url = one.url && /^https?:/i.test(one.url) ? address(one.url) : null;
  const ours = url?.pathname.startsWith("/hubfs/");
  const href = url && (ours ? url.pathname + url.search : url.href);
  return ours && one.picture ? picture(name, href, href) : file(name, href);
}

function drawContact(contact, integrationThread) {
  const of = contact.properties;
  const kind = { HS_PHONE_NUMBER: "phone number", HS_EMAIL_ADDRESS: "e-mail address" }[contact.identifier.type] || "opaque id";
  const rows = [
    ["Name", [of.firstname, of.lastname].filter(Boolean).join(" ")],
    ["E-mail", of.email], ["Phone", of.phone], ["Mobile", of.mobilephone],
    ["Company", of.company],
    ["Writes from", `${contact.identifier.value} (${kind})`],
    ["Contact", contact.known ? contact.id : `none; visitor ${contact.id}`],
    ["Conversations", String(contact.threads)],
    ["Channel", contact.channel], ["Ticket", contact.ticket], ["Priority", contact.priority],
    ...contact.notes.map((note, at) => [`Note ${at + 1}`, note]),
    ["Their thread", integrationThread],
  ].filter(([, value]) => value);
  renew(byId("contact"), rows, ([name]) => name, ([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", {}, make("bdi", {}, unmasked(value)))));
}
