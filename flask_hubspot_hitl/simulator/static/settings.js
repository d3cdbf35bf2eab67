// The inboxes' settings: draws which channels are connected, opens the popup that connects one, and turns the switches.

import { call } from "./api.js";
import { byId, make, renew, unmasked } from "./dom.js";
import { attempt, live } from "./page.js";

const POPUP = "popup,width=600,height=600"; // what HubSpot's documents say to design for

async function refresh() {
  const { inboxes } = await call("GET", "/_sim/settings");
  renew(byId("inboxes"), inboxes, (one) => one.id, inbox);
}

function inbox(one) {
  const heading = make("div", { className: "row" }, make("h2", { className: "grow" }, unmasked(one.name)),
    make("small", {}, `${one.kind} ${one.id} · account ${one.portal_id}`));
  const empty = one.accounts.length ? null : make("p", { className: "hint" }, "No channel is connected.");
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
    turn(one, ...verb), turn(one, "purge", "Remove"));
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
