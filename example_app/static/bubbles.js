// How what was said looks. Text goes in by textContent only; nothing here or elsewhere parses HTML.

/** make("li", { className: "bot" }, "text", node, …); null children are left out. */
export function make(tag, properties = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  node.append(...children.filter((child) => child !== null));
  return node;
}

export function icon(name) {
  const space = "http://www.w3.org/2000/svg";
  const drawing = document.createElementNS(space, "svg");
  drawing.setAttribute("class", "drawing");
  drawing.setAttribute("aria-hidden", "true");
  const use = document.createElementNS(space, "use");
  use.setAttribute("href", `#i-${name}`);
  drawing.append(use);
  return drawing;
}

/** A drawing for the bot and for nobody yet, initials on a colour of its own for a name. */
export function avatar(name, kind) {
  const words = String(name).match(/[\p{L}\p{N}]+/gu) || ["?"];
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0]];
  let sum = 0;
  for (const sign of String(name)) sum = (sum * 31 + sign.codePointAt(0)) % 9973;
  const initials = letters.map((word) => Array.from(word)[0].toUpperCase()).join("");
  const drawn = kind === "agent" ? initials : icon(kind);
  const node = make("span", { className: `avatar ${kind} tone-${sum % 6}` }, drawn);
  node.setAttribute("aria-hidden", "true");
  return node;
}

/** An http(s) address, or null: what comes from elsewhere need not be one. */
function address(text) {
  try {
    const url = new URL(text, location.href);
    return text && /^https?:$/.test(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** A file: a link when it can be had. An agent's file is at HubSpot's address, so it opens in a tab of its own. */
function file(one) {
  const label = make("bdi", {}, one.name);
  const url = address(one.url);
  if (!url) return make("span", { className: "file" }, icon("file"), label);
  const link = make("a", { className: "file", href: url.href, rel: "noopener noreferrer" }, icon("file"), label);
  if (url.origin === location.origin) link.download = "";
  else link.target = "_blank";
  return link;
}

/** One line of the chat; `before` is the line above it. */
export function bubble(entry, before) {
  const follows = before !== null && before.speaker === entry.speaker && before.name === entry.name;
  const item = make("li", { className: follows ? `${entry.speaker} follows` : entry.speaker });
  const said = new Date(entry.at * 1000);
  const time = make("time", { title: said.toLocaleString() },
    said.toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23" }));
  if (entry.speaker === "system") {
    item.append(make("bdi", {}, entry.text), " ", time);
    return item;
  }
  const name = entry.speaker === "user" ? "You" : entry.speaker === "bot" ? "Bot" : entry.name;
  if (entry.speaker !== "user") item.append(avatar(name, entry.speaker));
  item.append(make("small", { className: "by" }, make("bdi", {}, name), " ", time));
  item.append(make("div", { className: "bubble" },
    entry.text ? make("p", { dir: "auto" }, entry.text) : null, ...entry.files.map(file)));
  return item;
}
