// How what was said looks.

import { address, avatar, clock, file, linked, make, picture, whole } from "./design/dom.js";

/** A drawing for the bot and for nobody yet, initials on a colour of its own for a name. */
export const face = (name, kind) => avatar(name, kind, kind === "agent" ? null : kind);

const attached = (one) => one.picture ? picture(one.name, one.picture, one.url) : file(one.name, address(one.url)?.href);

/** One line of the chat; `before` is the line above it. */
export function bubble(entry, before) {
  const follows = before !== null && before.speaker === entry.speaker && before.name === entry.name;
  const item = make("li", { className: follows ? `${entry.speaker} follows` : entry.speaker, dataset: { number: entry.number } });
  const said = entry.at * 1000;
  const time = make("time", { title: whole(said) }, clock(said));
  if (entry.speaker === "system") {
    item.append(make("bdi", {}, entry.text), " ", time);
    return item;
  }
  const name = entry.speaker === "user" ? "You" : entry.speaker === "bot" ? "Bot" : entry.name;
  if (entry.speaker !== "user") item.append(face(name, entry.speaker));
  item.append(make("small", { className: "by" }, make("bdi", {}, name), " ", time));
  item.append(make("div", { className: "bubble" },
    entry.text ? make("p", { dir: "auto" }, ...linked(entry.text)) : null, ...entry.files.map(attached)));
  return item;
}
