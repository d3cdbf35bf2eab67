// One conversation: its head, its bubbles with receipts and files, and the contact card.

import { avatar, byId, clock, day, icon, keepEnd, make, renew, unmasked } from "./dom.js";

const followMessages = keepEnd(byId("log"));

export function drawThread(thread, agents, me) {
  byId("thread").hidden = !thread;
  byId("choose").hidden = Boolean(thread);
  byId("panel").classList.toggle("empty", !thread);
  if (!thread) return;
  const open = thread.status === "OPEN" && !thread.archived;
  byId("title").textContent = unmasked(thread.customer);
  byId("who").replaceChildren(avatar(thread.customer, "customer"));
  const state = thread.purged ? "Deleted" : thread.archived ? "In the trash" : open ? "Open" : "Closed";
  byId("facts").textContent = `${state} · ${thread.contact.inbox || "Inbox"} · thread ${thread.id}`;
  drawOwner(thread, agents);
  const possible = {
    assign: !thread.archived && thread.assignedTo !== me, unassign: Boolean(thread.assignedTo) && !thread.archived, close: open,
    reopen: thread.status === "CLOSED" && !thread.archived, archive: !thread.archived,
    restore: thread.archived && !thread.purged, purge: !thread.purged,
  };
  for (const button of document.querySelectorAll("[data-verb]")) button.hidden = !possible[button.dataset.verb];
  byId("composer").hidden = thread.archived;
  drawMessages(thread);
  drawContact(thread.contact, thread.integrationThreadId);
}

function drawOwner(thread, agents) {
  const owner = byId("owner");
  const choices = [{ id: "", name: "Nobody" }, ...agents.filter((one) => one.portalId === thread.portalId)];
  if (thread.assignedTo && !choices.some((one) => one.id === thread.assignedTo)) {
    choices.push({ id: thread.assignedTo, name: thread.assignee });
  }
  renew(owner, choices, (one) => one.id, (one) => make("option", { value: one.id }, unmasked(one.name || one.id)));
  owner.value = thread.assignedTo || "";
  owner.disabled = thread.archived;
}

function drawMessages(thread) {
  const list = byId("messages");
  const another = list.dataset.thread !== thread.id;
  if (another) list.replaceChildren();
  list.dataset.thread = thread.id;
  byId("log").setAttribute("aria-busy", String(another)); // what was said before is not news to a screen reader
  let last = null;
  const items = [];
  for (const message of thread.messages) {
    if (!last || day(last.createdAt) !== day(message.createdAt)) items.push({ id: `day-${message.id}`, day: message.createdAt });
    const follows = items[items.length - 1] === last && last.type === message.type && last.createdBy === message.createdBy
      && last.author.name === message.author.name;
    items.push(Object.assign(message, { follows }));
    last = message;
  }
  renew(list, items, (one) => one.id, (one) => entry(one, thread));
  byId("log").removeAttribute("aria-busy");
  followMessages(another);
}

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
  return `${one.type} by ${by}`;
}

function bubble(message, thread) {
  const note = message.type === "COMMENT";
  const mine = message.direction === "OUTGOING";
  const name = unmasked(message.author.name);
  const item = make("li", { className: [note ? "note" : mine ? "outgoing" : "incoming", message.follows ? "follows" : ""].join(" ") });
  item.append(
    avatar(message.author.name, message.author.side),
    make("small", { className: "by" }, make("bdi", {}, note ? `Internal note by ${name}` : name), " ",
      make("time", { title: new Date(message.createdAt).toLocaleString() }, clock(message.createdAt))),
    make("div", { className: "bubble" },
      message.text ? make("p", { dir: "auto" }, message.text) : null,
      ...(message.attachments || []).map(file)),
  );
  if (mine && !note) item.append(receipt(message.status || {}, thread));
  return item;
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

/** An http(s) address, or null: what comes from elsewhere need not be one. */
function address(text) {
  try {
    const url = new URL(text);
    return /^https?:$/.test(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** An attachment: a link when it can be had, from our own origin if it is one of the stand-in's files. */
function file(one) {
  const label = make("bdi", {}, unmasked(one.name || one.fileId || one.type));
  const url = address(one.url);
  if (!url) return make("span", { className: "file" }, icon("file"), label);
  const ours = url.pathname.startsWith("/hubfs/");
  return make("a", { className: "file", href: ours ? url.pathname + url.search : url.href, rel: "noopener noreferrer" },
    icon("file"), label);
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
    ["Channel", contact.channel], ["Ticket", contact.ticket], ["Their thread", integrationThread],
  ].filter(([, value]) => value);
  renew(byId("contact"), rows, ([name]) => name, ([name, value]) =>
    make("div", {}, make("dt", {}, name), make("dd", { dir: "auto" }, unmasked(value))));
}
