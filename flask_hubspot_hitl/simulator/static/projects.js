// Development, Projects: draws every app with its words, what it may ask for, and what it hears.

import { call } from "./api.js";
import { byId, make, renew, unmasked } from "./design/dom.js";
import { live } from "./page.js";

const KINDS = { project: "Project app", "legacy-public": "Legacy public app", "legacy-private": "Legacy private app" };

async function refresh() {
  const { apps } = await call("GET", "/_sim/projects");
  renew(byId("apps"), apps, (one) => one.id, app);
}

function app(one) {
  const project = one.project === null ? "" : ` · project ${unmasked(one.project)} · account ${one.account}`;
  return make("li", { dataset: { app: one.id } },
    make("div", { className: "row" }, make("h2", { className: "grow" }, unmasked(one.name)),
      make("small", {}, `${KINDS[one.kind]}${project}`)),
    part("Auth", [["App id", one.id], ["Client id", one.client_id], ["Client secret", one.client_secret],
      ["Redirect URLs", one.redirect_urls.join(", ") || "any https address, and http on this machine"],
      ["Scopes", one.required_scopes.join(" ")],
      ["Optional scopes", one.optional_scopes === null ? "any" : one.optional_scopes.join(" ")]]),
    part("Keys", [["Developer API key", one.developer_key]]),
    part("Distribution", [["Distribution", one.distribution || "not limited"],
      ["Installed in", one.installs.join(", ") || "no account"],
      ["Accounts at most", one.may_install === null ? "any number" : String(one.may_install)],
      ["Install address", one.install_url || "this app has none"]]),
    part("Webhooks", [["Target URL", one.target_url || "none"], ["At once at most", String(one.max_concurrent)],
      ["Subscriptions", one.subscriptions.map(subscription).join(", ") || "none"]]));
}

function subscription(one) {
  return `${one.type}${one.property === null ? "" : ` ${one.property}`}${one.active ? "" : " (paused)"}`;
}

function part(title, rows) {
  return make("section", {}, make("h3", {}, title),
    make("dl", {}, ...rows.flatMap(([name, value]) => [make("dt", {}, name), make("dd", {}, unmasked(value))])));
}

live(refresh);
