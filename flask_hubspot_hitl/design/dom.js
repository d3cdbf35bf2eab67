// What every page is made with: nodes, names, links, files, lists. Text goes in by textContent only; nothing here or
// elsewhere parses HTML.

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

/** Initials on a colour of the name's own, or a drawing. */
export function avatar(name, side, drawing = null) {
  const words = String(name).match(/[\p{L}\p{N}]+/gu) || ["?"];
  const letters = words.length > 1 ? [words[0], words[words.length - 1]] : [words[0]];
  let sum = 0;
  for (const sign of String(name)) sum = (sum * 31 + sign.codePointAt(0)) % 9973;
  const initials = letters.map((word) => Array.from(word)[0].toUpperCase()).join("");
  const node = make("span", { className: `avatar tone-${sum % 8} ${side}` }, drawing ? icon(drawing) : initials);
  node.setAttribute("aria-hidden", "true");
  return node;
}

/** Marks that turn the reading direction around would let a name lie; here they are shown. */
export const unmasked = (text) =>
  String(text).replace(/[\u0000-\u0009\u000b-\u001f\u007f-\u009f\u200e\u200f\u202a-\u202e\u2066-\u2069\ufeff]/g,
    (sign) => `\\u${sign.codePointAt(0).toString(16).padStart(4, "0")}`);

// --- links, files and pictures

const LINK = /\b(?:https?:\/\/|mailto:|tel:)[^\s<>"'`\u0000-\u001f\u007f-\u009f\u200b-\u200f\u202a-\u202e\u2066-\u2069]+/gi;
const PROTOCOLS = /^(?:https?|mailto|tel):$/;

/** An address that may be followed, or null: what comes from elsewhere need not be one. */
export function address(text, protocols = /^https?:$/) {
  try {
    const url = new URL(text, location.href);
    return text && protocols.test(url.protocol) ? url : null;
  } catch {
    return null;
  }
}

/** Where a link ends: signs that close a sentence, or a bracket that was opened before it, do not belong to it. */
function ending(link) {
  const end = link.replace(/[.,;:!?…]+$/, "");
  const closes = /[)\]}]$/.exec(end);
  const opens = closes && { ")": "(", "]": "[", "}": "{" }[closes[0]];
  if (closes && !end.includes(opens)) return ending(end.slice(0, -1));
  return end;
}

/** A text as nodes: what is an address in it is a link that says exactly where it leads. */
export function linked(text) {
  const nodes = [];
  let rest = 0;
  for (const found of String(text).matchAll(LINK)) {
    const link = ending(found[0]);
    const url = address(link, PROTOCOLS);
    if (!url || /^[a-z]+:\/*$/i.test(link)) continue;
    nodes.push(text.slice(rest, found.index));
    const node = make("a", { href: url.href, rel: "noopener noreferrer nofollow" }, link);
    if (/^https?:$/.test(url.protocol)) node.target = "_blank";
    nodes.push(node);
    rest = found.index + link.length;
  }
  return [...nodes, text.slice(rest)].filter((one) => one !== "");
}

/** A file: a link when it can be had. One of another origin opens in a tab of its own. */
export function file(name, href) {
  const label = make("bdi", {}, unmasked(name));
  const url = address(href);
  if (!url) return make("span", { className: "file" }, icon("file"), label);
  const link = make("a", { className: "file", href: url.href, rel: "noopener noreferrer" }, icon("file"), label);
  if (url.origin === location.origin) link.download = "";
  else link.target = "_blank";
  return link;
}

/** A picture from our own origin, which leads to its file; a file when it can't be shown. */
export function picture(name, source, href) {
  const image = make("img", { src: source, alt: unmasked(name), loading: "lazy", decoding: "async" });
  const link = make("a", { className: "picture", href: source, target: "_blank", rel: "noopener noreferrer" }, image);
  image.addEventListener("error", () => link.replaceWith(file(name, href)));
  return link;
}

// --- lists

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
  const watch = new ResizeObserver(() => follow(false)); // a picture that has come makes what is in it longer
  for (const node of [list, ...list.children]) watch.observe(node);
  return Object.assign(follow, { isAtEnd: () => stuck, letGo: () => { stuck = false; } });
}

// --- copying

/** Put a text into the clipboard; where the browser gives none it is shown, ready to be copied. Whether it was put there. */
export async function copied(text, button) {
  try {
    await navigator.clipboard.writeText(text);
    return true;
  } catch {
    const shown = make("pre", { tabIndex: 0 }, text);
    button.parentElement.after(shown);
    getSelection().selectAllChildren(shown);
    return false;
  }
}

// --- times

const UNITS = [["d", 86400], ["h", 3600], ["min", 60]];

/** How long ago, in short. */
export function ago(ms) {
  const seconds = Math.max(0, (Date.now() - ms) / 1000);
  const unit = UNITS.find(([, size]) => seconds >= size);
  return unit ? `${Math.floor(seconds / unit[1])} ${unit[0]}` : "now";
}

// Made once: a format is dear to make, and a long conversation needs hundreds of times.
const CLOCK = { hour: "2-digit", minute: "2-digit", hourCycle: "h23" };
const formats = [
  CLOCK, { ...CLOCK, second: "2-digit", fractionalSecondDigits: 3 },
  { weekday: "long", day: "numeric", month: "long" }, { dateStyle: "medium", timeStyle: "medium" },
].map((one) => new Intl.DateTimeFormat([], one));

/** A time of day, the same with milliseconds, a day, and all of it, in the reader's way. */
export const [clock, exactly, day, whole] = formats.map((one) => (when) => one.format(new Date(when)));

// --- questions

/** Ask before something that can't be undone; whether it may be done. The answer that changes nothing has the focus. */
export function confirmed(question, consequence, label) {
  const no = make("button", { value: "no", autofocus: true }, "Keep it");
  const yes = make("button", { value: "yes", className: "danger primary" }, label);
  const title = make("h2", { id: "question" }, question);
  const ask = make("dialog", {}, make("form", { method: "dialog" }, title, make("p", {}, consequence),
    make("div", { className: "row" }, yes, no)));
  ask.setAttribute("aria-labelledby", "question");
  document.body.append(ask);
  ask.showModal();
  return new Promise((resolve) => {
    ask.addEventListener("close", () => { ask.remove(); resolve(ask.returnValue === "yes"); }, { once: true });
  });
}
