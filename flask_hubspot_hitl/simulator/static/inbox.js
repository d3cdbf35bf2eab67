// The list of conversations: who, what last, how long somebody waits, and how much is unread. Of thousands only those
// in view are nodes; room above and below stands for the others.

import { ago, avatar, byId, make, renew, unmasked } from "./design/dom.js";

const MORE_ROWS = 8; // drawn above and below what is in view
const USUAL_HEIGHT = 84;
const list = byId("threads");
const isOpen = (thread) => thread.status === "OPEN" && !thread.archived;

const FILTERS = {
  open: isOpen,
  unassigned: (thread) => isOpen(thread) && !thread.assignedTo,
  mine: (thread, me) => isOpen(thread) && thread.assignedTo === me,
  closed: (thread) => !isOpen(thread),
};

const ORDERS = {
  latest: (one, other) => other.latest - one.latest,
  waiting: (one, other) => (one.waitingSince ?? Infinity) - (other.waitingSince ?? Infinity) || other.latest - one.latest,
};

const EMPTY = {
  open: "No open conversation. They come in when a visitor asks for a person.",
  unassigned: "Nobody waits for an owner. Conversations that nobody has taken yet are listed here.",
  mine: "No open conversation is assigned to you. Open one and press a to take it.",
  closed: "No closed conversation. Press e in an open one to close it.",
};

let rows = [];
let drawn = { chosen: null, choose: null };

/** The threads behind one filter, in an order. */
export function shown(threads, { filter, order, me }) {
  return threads.filter((thread) => FILTERS[filter](thread, me)).sort(ORDERS[order]);
}

export function drawInbox(data, how, choose) {
  for (const label of byId("filters").children) {
    const filter = label.querySelector("input").value;
    const count = data.threads.filter((thread) => FILTERS[filter](thread, how.me)).length;
    label.querySelector("b").textContent = count.toLocaleString();
  }
  rows = shown(data.threads, how);
  drawn = { chosen: how.chosen, choose };
  const found = how.search ? `No conversation here has “${unmasked(how.search)}” in it. Press Esc to see all.` : EMPTY[how.filter];
  byId("empty").textContent = rows.length ? "" : found;
  paint();
  document.title = `${data.unread ? `(${data.unread}) ` : ""}Inbox – HubSpot stand-in`;
}

const heightOf = () => list.firstElementChild?.offsetHeight || USUAL_HEIGHT;

function paint() {
  const height = heightOf();
  const first = Math.min(Math.max(Math.floor(list.scrollTop / height) - MORE_ROWS, 0), rows.length);
  const end = Math.min(Math.ceil((list.scrollTop + list.clientHeight) / height) + MORE_ROWS, rows.length);
  const hadFocus = list.contains(document.activeElement);
  const part = rows.slice(first, end).map((thread) => ({ ...thread, chosen: thread.id === drawn.chosen }));
  list.style.setProperty("--above", `${first * height}px`);
  list.style.setProperty("--below", `${(rows.length - end) * height}px`);
  renew(list, part, (one) => one.id, row);
  if (hadFocus && !list.contains(document.activeElement)) list.focus({ preventScroll: true });
  const children = [...list.children];
  const stop = children.find((item) => item.dataset.key === drawn.chosen) ?? children[Math.ceil(list.scrollTop / height) - first];
  children.forEach((item, place) => {
    item.setAttribute("aria-posinset", String(first + place + 1));
    item.setAttribute("aria-setsize", String(rows.length));
    item.firstElementChild.tabIndex = item === stop ? 0 : -1; // one stop for Tab; arrows go on from there
  });
  if (children.length && heightOf() !== height) paint();
}

/** Scroll a row into view; its button. */
export function reveal(id) {
  const place = rows.findIndex((thread) => thread.id === id);
  if (place < 0) return null;
  const height = heightOf();
  const above = place * height;
  if (above < list.scrollTop) list.scrollTop = above;
  else if (above + height > list.scrollTop + list.clientHeight) list.scrollTop = above + height - list.clientHeight;
  paint();
  return list.querySelector(`[data-key="${CSS.escape(id)}"] button`);
}

/** The row that is so many below (above, when negative) another one; the first or last at the ends. */
export function beside(id, by) {
  const place = rows.findIndex((thread) => thread.id === id);
  if (place < 0) return rows[by > 0 ? 0 : rows.length - 1]?.id;
  return rows[Math.min(Math.max(place + by, 0), rows.length - 1)]?.id;
}

let asked = 0;
list.addEventListener("scroll", () => {
  cancelAnimationFrame(asked);
  asked = requestAnimationFrame(paint);
}, { passive: true });
new ResizeObserver(paint).observe(list);

const STEPS = { ArrowDown: 1, ArrowUp: -1, PageDown: 8, PageUp: -8, Home: -Infinity, End: Infinity };
list.addEventListener("keydown", (event) => {
  const by = STEPS[event.key];
  if (!by || event.ctrlKey || event.metaKey || event.altKey) return;
  event.preventDefault();
  const from = event.target.closest("li")?.dataset.key ?? drawn.chosen;
  const next = beside(from, by);
  if (next) reveal(next)?.focus();
});

function row(thread) {
  const since = thread.waitingSince ?? thread.latest;
  const state = thread.purged ? "deleted" : thread.archived ? "in the trash" : thread.status === "CLOSED" ? "closed" : "";
  const button = make("button", { type: "button", className: thread.unread ? "unread" : "" },
    avatar(thread.customer, "customer"),
    make("strong", {}, make("bdi", { className: "cut" }, unmasked(thread.customer))),
    make("time", {
      className: thread.waitingSince ? "waiting" : "",
      title: thread.waitingSince ? "Waiting for an answer" : "Last news",
      dataset: { since },
    }, ago(since)),
    make("span", { className: "preview cut", dir: "auto" }, unmasked(thread.preview || "…")),
    thread.unread ? make("b", { className: "badge" }, String(thread.unread), make("span", { className: "hidden" }, " unread")) : null,
    make("span", { className: "meta" },
      make("span", { className: "cut" }, ...[state, state ? " · " : "", thread.assignee ? make("bdi", {}, unmasked(thread.assignee)) : "Unassigned"]),
      thread.failed ? make("span", { className: "pill bad" }, "not delivered") : null),
  );
  if (thread.chosen) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => drawn.choose(thread.id));
  return make("li", {}, button);
}
