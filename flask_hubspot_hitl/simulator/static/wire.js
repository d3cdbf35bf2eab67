// The wire view: every API call and delivery in the order they ended; bodies on demand, deliveries once more.

import { call } from "./api.js";
import { byId, copied, exactly, icon, keepEnd, make, renew, unmasked } from "./design/dom.js";

const LONGEST = 20_000;
const followLines = keepEnd(byId("lines"));

export function drawWire(lines, scope, notice) {
  const list = byId("lines");
  const another = list.dataset.scope !== scope;
  list.dataset.scope = scope;
  byId("silence").hidden = lines.length > 0;
  renew(list, lines, (one) => `${one.at}-${one.number}`, (one) => line(one, notice));
  followLines(another);
}

function line(one, notice) {
  const delivery = one.kind === "delivery";
  const again = one.attempt ? `, attempt ${one.attempt + 1}` : "";
  const details = make("details", {},
    make("summary", {},
      make("span", { className: `way ${one.kind}`, title: delivery ? "HubSpot to the app" : "The app to HubSpot" }, delivery ? "webhook" : one.method),
      make("span", { className: "target" }, unmasked(one.target) + again),
      make("span", { className: `pill ${tone(one.status)}` }, one.status === null ? "no answer" : String(one.status)),
      make("time", {}, exactly(one.at))),
  );
  details.addEventListener("toggle", async () => {
    if (!details.open || details.querySelector(".bodies")) return;
    const bodies = make("div", { className: "bodies" });
    details.append(bodies);
    try {
      bodies.append(...show(await call("GET", `/_sim/desk/wire/${one.number}`), notice));
      details.scrollIntoView({ block: "nearest" });
    } catch (error) {
      bodies.remove();
      notice(error);
    }
  });
  return make("li", { className: `${one.kind} ${tone(one.status) === "bad" ? "failed" : ""}` }, details);
}

const tone = (status) => (status === null || status >= 400 ? "bad" : "good");

function show(full, notice) {
  const copy = make("button", { type: "button" }, icon("copy"), " Copy as cURL");
  copy.addEventListener("click", async () => {
    if (await copied(full.curl, copy)) notice(null, "Copied. Put the secrets in the place of what stands for them.");
  });
  const doing = make("div", { className: "row" }, copy);
  const blocks = [doing];
  const add = (title, value) => {
    if (value !== null && value !== undefined) blocks.push(make("h3", {}, title), make("pre", { tabIndex: 0 }, text(value)));
  };
  if (full.kind === "delivery") {
    const again = make("button", { type: "button" }, icon("again"), " Deliver again");
    again.addEventListener("click", async () => {
      again.disabled = true;
      try {
        const { status } = await call("POST", `/_sim/desk/wire/${full.number}/replay`, {});
        notice(null, `Delivered again: ${status === null ? "no answer" : status}`);
      } catch (error) {
        notice(error);
      }
      again.disabled = false;
    });
    doing.append(again);
    add("To", full.url);
  } else if (full.fault) {
    add("Chaos", full.fault);
  }
  add("Query", full.query);
  add("Sent", full.sent);
  add("Answered", full.answered);
  const headers = make("details", {}, make("summary", {}, "Headers"), make("pre", { tabIndex: 0 }, text(full.headers)));
  return [...blocks, headers];
}

function text(value) {
  const whole = unmasked(typeof value === "string" ? value : JSON.stringify(value, null, 2));
  return whole.length > LONGEST ? `${whole.slice(0, LONGEST)}\n… ${whole.length - LONGEST} characters more` : whole;
}
