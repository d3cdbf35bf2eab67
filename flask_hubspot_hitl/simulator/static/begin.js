// "New conversation": an agent writes to a contact first, where a channel allows it.

import { byId, make, renew, unmasked } from "./design/dom.js";

const dialog = byId("beginning");
const form = dialog.querySelector("form");

/** Offer it, if the channel allows it, with the contacts that can be written to. */
export function drawBeginning(people) {
  byId("begin-button").hidden = people === null;
  renew(byId("people"), people ?? [], (one) => one.to, (one) => make("option", { value: one.to }, unmasked(one.name ?? "")));
}

/**
 * Have the button and the dialog do it.
 *
 * `begin(to, text)` makes the conversation and answers its id, or null; then what was written stays.
 */
export function beginning({ begin, choose }) {
  byId("begin-button").addEventListener("click", () => dialog.showModal());
  byId("begin-not").addEventListener("click", () => dialog.close());
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    const id = await begin(form.elements.to.value, form.elements.text.value);
    dialog.close();
    if (id === null) return;
    form.reset();
    choose(id);
  });
}
