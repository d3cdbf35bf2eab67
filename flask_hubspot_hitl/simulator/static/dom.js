// Making and renewing nodes. Text goes in by textContent only; nothing here or elsewhere parses HTML.

export const byId = (id) => document.getElementById(id);

/** make("li", { className: "row", dataset: { id: 1 } }, "text", node, …); null and undefined children are left out. */
export function make(tag, { dataset, ...properties } = {}, ...children) {
  const node = Object.assign(document.createElement(tag), properties);
  Object.assign(node.dataset, dataset);
  node.append(...children.filter((child) => child !== null && child !== undefined));
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

/** Initials on a colour of the name's own. */
export function avatar(name, side) {
  const words = String(name).match(/[\p{L}\p{N}]+/gu) || ["?"];
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0]];
  let sum = 0;
  for (const sign of String(name)) sum = (sum * 31 + sign.codePointAt(0)) % 9973;
  const initials = letters.map((word) => Array.from(word)[0].toUpperCase()).join("");
  const node = make("span", { className: `avatar tone-${sum % 8} ${side}` }, side === "app" ? icon("wire") : initials);
  node.setAttribute("aria-hidden", "true");
  return node;
}

/** Marks that turn the reading direction around would let a name lie; here they are shown. */
export const unmasked = (text) =>
  String(text).replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`);

/** Make `parent`'s children those of `items`: what looks the same stays the same node, with focus and open details. */
export function renew(parent, items, keyOf, render) {
  const before = new Map([...parent.children].map((node) => [node.dataset.key, node]));
  let place = parent.firstElementChild;
  for (const item of items) {
    const key = String(keyOf(item));
    const look = JSON.stringify(item, (name, value) => (name === "url" ? undefined : value)); // links are signed anew
    let node = before.get(key);
    before.delete(key);
    if (!node || node.look !== look) {
      const old = node;
      node = render(item);
      node.dataset.key = key;
      node.look = look;
      if (old) {
        const focused = old.contains(document.activeElement);
        if (place === old) place = node;
        old.replaceWith(node);
        if (focused) node.querySelector("button, a, summary")?.focus();
      }
    }
    if (node === place) place = place.nextElementSibling;
    else parent.insertBefore(node, place);
  }
  for (const node of before.values()) node.remove();
}

/** Keep the end of a scrolling list in view when it changes, unless somebody has scrolled away; answers how. */
export function keepEnd(list) {
  let stuck = true;
  const follow = (anyway) => {
    stuck ||= anyway;
    if (stuck) list.scrollTop = list.scrollHeight;
  };
  list.addEventListener("scroll", () => { stuck = list.scrollTop + list.clientHeight >= list.scrollHeight - 60; });
  new ResizeObserver(() => follow(false)).observe(list);
  return follow;
}

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

/** How long ago, in short. */
export function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  const unit = UNITS.find(([, size]) => seconds >= size);
  return unit ? `${Math.floor(seconds / unit[1])} ${unit[0]}` : "now";
}

export const clock = (when, more = {}) =>
  new Date(when).toLocaleTimeString([], { hour: "2-digit", minute: "2-digit", hourCycle: "h23", ...more });

export const day = (when) =>
  new Date(when).toLocaleDateString([], { weekday: "long", day: "numeric", month: "long" });
