// The list of conversations: who, what last, how long somebody waits, and how much is unread.

import { ago, avatar, byId, make, renew, unmasked } from "./dom.js";

const isOpen = (thread) => thread.status === "OPEN" && !thread.archived;

const FILTERS = {
  open: isOpen,
  mine: (thread, me) => isOpen(thread) && thread.assignedTo === me,
  closed: (thread) => !isOpen(thread),
};

const EMPTY = {
  open: "No open conversation. They come in when a visitor asks for a person.",
  mine: "No open conversation is assigned to you.",
  closed: "No closed conversation.",
};

/** The threads behind one filter, the one with news first. */
export function shown(threads, filter, me) {
  return threads.filter((thread) => FILTERS[filter](thread, me));
}

export function drawInbox(threads, { filter, me, chosen }, choose) {
  for (const button of byId("filters").children) {
    const of = button.dataset.filter;
    button.setAttribute("aria-pressed", String(of === filter));
    button.querySelector("b").textContent = of === "closed" ? "" : shown(threads, of, me).length || "";
  }
  const list = shown(threads, filter, me);
  byId("empty").textContent = list.length ? "" : EMPTY[filter];
  renew(byId("threads"), list.map((thread) => ({ ...thread, chosen: thread.id === chosen })), (one) => one.id,
    (thread) => row(thread, choose));
  const unread = threads.reduce((sum, thread) => sum + thread.unread, 0);
  document.title = `${unread ? `(${unread}) ` : ""}Inbox – HubSpot stand-in`;
}

function row(thread, choose) {
  const since = thread.waitingSince ?? thread.latest;
  const state = thread.purged ? "deleted" : thread.archived ? "in the trash" : thread.status === "CLOSED" ? "closed" : "";
  const button = make("button", { type: "button", className: thread.unread ? "unread" : "" },
    avatar(thread.customer, "customer"),
    make("strong", { dir: "auto" }, unmasked(thread.customer)),
    make("time", {
      className: thread.waitingSince ? "waiting" : "",
      title: thread.waitingSince ? "Waiting for an answer" : "Last news",
      dataset: { since },
    }, ago(since)),
    make("span", { className: "preview", dir: "auto" }, unmasked(thread.preview || "…")),
    thread.unread ? make("b", { className: "badge" }, String(thread.unread), make("span", { className: "hidden" }, " unread")) : null,
    make("span", { className: "meta" },
      make("span", {}, [state, thread.assignee ? unmasked(thread.assignee) : "Unassigned"].filter(Boolean).join(" · ")),
      thread.failed ? make("span", { className: "pill bad" }, "not delivered") : null),
  );
  if (thread.chosen) button.setAttribute("aria-current", "true");
  button.addEventListener("click", () => choose(thread.id));
  return make("li", {}, button);
}
