// The inboxes' settings: draws which channels are connected, opens the popup that connects one, turns the switches, and
// adds contacts. The agents are drawn by people.js.

import { call } from "./api.js";
import { byId, confirmed, make, renew, unmasked } from "./design/dom.js";
import { attempt, live } from "./page.js";
import { agent } from "./people.js";

const POPUP = "popup,width=600,height=600"; // what HubSpot's documents say to design for

async function refresh() {
  const { inboxes, agents, contacts } = await call("GET", "/_sim/settings");
  renew(byId("inboxes"), inboxes, (one) => one.id, inbox);
  renew(byId("agents"), agents, (one) => `${one.portal_id}/${one.id}`, agent);
  renew(byId("contacts"), contacts, (one) => one.id, contact);
}

function contact(one) {
  const reach = [one.phone, one.email].filter(Boolean).map(unmasked).join(" · ");
  return make("li", { className: "row", dataset: { contact: one.id } },
    make("strong", { className: "grow" }, make("bdi", {}, unmasked(one.name || reach || "Nobody yet"))),
    make("small", {}, make("bdi", {}, reach)), make("small", {}, `account ${one.portal_id}`));
}

byId("contact").addEventListener("submit", (event) => {
  event.preventDefault();
  const form = event.currentTarget;
  const given = [...new FormData(form)].map(([name, value]) => [name, value.trim()]).filter(([, value]) => value);
  attempt(async () => {
    if (!given.some(([name]) => name !== "firstname")) throw new Error("A contact needs a phone number or an e-mail address.");
    await call("POST", "/_sim/contacts", Object.fromEntries(given));
    form.reset();
    form.elements.firstname.focus();
    await refresh();
  });
});

function inbox(one) {
  const heading = make("div", { className: "row" }, make("h2", { className: "grow" }, unmasked(one.name)),
    make("small", {}, `${one.kind} ${one.id} · account ${one.portal_id}`));
  const empty = one.accounts.length ? null
    : make("p", { className: "hint" }, "No channel is connected. ", one.channels.length ? "Choose one below." : "Install an app that has one.");
  return make("li", { dataset: { inbox: one.id } }, heading, make("ul", {}, ...one.accounts.map(account)), empty,
    make("div", { className: "row" }, ...one.channels.map((channel) => connect(one, channel))));
}

function account(one) {
  const state = !one.authorized ? ["not authorized", "bad"] : !one.active ? ["switched off", "odd"] : ["connected", "good"];
  const verb = one.active ? ["deactivate", "Switch off"] : ["activate", "Switch on"];
  return make("li", { className: "row", dataset: { account: one.id } },
    make("div", { className: "grow" }, make("strong", {}, unmasked(one.name)), make("br"),
      make("small", {}, unmasked(one.identifier || "no identifier"))),
    make("span", { className: `pill ${state[1]}` }, state[0]),
    turn(one, ...verb), remove(one));
}

function remove(one) {
  const button = make("button", { type: "button", className: "danger" }, "Remove …");
  const loses = "Conversations no longer come in through it, and nobody can answer in those that it brought.";
  button.addEventListener("click", async () => {
    if (!await confirmed(`Remove ${unmasked(one.name)} from this inbox?`, loses, "Remove")) return;
    await attempt(async () => {
      await call("POST", `/_sim/channel-accounts/${one.id}/purge`, {});
      await refresh();
    });
  });
  return button;
}

function turn(one, verb, label) {
  return make("button", { type: "button", onclick: () => attempt(async () => {
    await call("POST", `/_sim/channel-accounts/${one.id}/${verb}`, {});
    await refresh();
  }) }, label);
}

function connect(one, channel) {
  const query = new URLSearchParams({ channelId: channel.id, inboxId: one.id, portalId: one.portal_id });
  const button = make("button", { type: "button", className: "primary", disabled: !channel.can_connect,
    onclick: () => window.open(`/connect?${query}`, "connect", POPUP) }, `Connect ${unmasked(channel.name)}`);
  if (!channel.can_connect) button.title = "Its app has set no channelAccountConnectionRedirectUrl.";
  return button;
}

live(refresh);
