// An agent in the settings: whether they are there, and when they work, as the agent's own page in HubSpot has it.

import { call } from "./api.js";
import { make, unmasked } from "./design/dom.js";
import { attempt } from "./page.js";

const STATES = [["available", "Available"], ["away", "Away"]];
const DAYS = ["EVERY_DAY", "MONDAY_TO_FRIDAY", "SATURDAY_SUNDAY", "MONDAY", "TUESDAY", "WEDNESDAY", "THURSDAY", "FRIDAY", "SATURDAY", "SUNDAY"];
const DAY_END = 1440;

const inWords = (days) => days[0] + days.slice(1).toLowerCase().replaceAll("_", " ");
const clock = (minute) => [Math.floor(minute / 60) % 24, minute % 60].map((part) => String(part).padStart(2, "0")).join(":");
const minutes = (text) => { const [hour, minute] = text.split(":").map(Number); return hour * 60 + minute; };

function select(name, choices, value) {
  const node = make("select", { name }, ...choices.map(([key, words]) => make("option", { value: key }, words)));
  node.value = value;
  return node;
}

function period({ days, startMinute, endMinute }) {
  const remove = make("button", { type: "button" }, "Remove hours");
  const row = make("div", { className: "row hours" },
    make("label", {}, "Days ", select("days", DAYS.map((one) => [one, inWords(one)]), days)),
    make("label", {}, "From ", make("input", { name: "from", type: "time", required: true, value: clock(startMinute) })),
    make("label", {}, "To ", make("input", { name: "to", type: "time", required: true, value: clock(endMinute) })), remove);
  remove.addEventListener("click", () => row.remove());
  return row;
}

/** What the form says, as the control route takes it; midnight as an end is the day's. */
function written(form) {
  const value = (row, name) => row.querySelector(`[name=${name}]`).value;
  const hours = [...form.querySelectorAll(".hours")].map((row) => ({
    days: value(row, "days"), startMinute: minutes(value(row, "from")), endMinute: minutes(value(row, "to")) || DAY_END,
  }));
  const zone = form.elements.zone.value.trim();
  return { status: form.elements.status.value, timeZone: zone || null, workingHours: hours.length ? hours : null };
}

/** One agent: a form of their own. */
export function agent(one) {
  const add = make("button", { type: "button" }, "Add working hours");
  const form = make("form", {}, make("div", { className: "row" },
    make("strong", { className: "grow" }, make("bdi", {}, unmasked(one.name))),
    make("small", {}, `${one.id} · account ${one.portal_id}`)),
  make("div", { className: "row" }, make("label", {}, "Status ", select("status", STATES, one.status === "available" ? "available" : "away")),
    make("label", { className: "grow" }, "Time zone ", make("input", { name: "zone", autocomplete: "off", placeholder: "UTC", value: one.time_zone || "" }))),
  ...one.hours.map(period),
  make("div", { className: "row" }, add, make("button", { className: "primary" }, "Save")));
  add.addEventListener("click", () => {
    if (!form.elements.zone.value) form.elements.zone.value = "UTC"; // HubSpot takes no hours without a time zone
    add.parentElement.before(period({ days: "MONDAY_TO_FRIDAY", startMinute: 540, endMinute: 1020 }));
  });
  form.addEventListener("submit", (event) => {
    event.preventDefault();
    attempt(() => call("PUT", `/_sim/agents/${one.id}/availability`, { portalId: one.portal_id, ...written(form) }));
  });
  return make("li", { dataset: { agent: one.id } }, form);
}
