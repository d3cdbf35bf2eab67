// What the plain pages share: a notice when something fails, and a sign that the page is live.

import { follow } from "./api.js";
import { byId } from "./design/dom.js";

/** Do something; what goes wrong stands in the page's notice until something goes right. */
export async function attempt(doing) {
  try {
    await doing();
    byId("notice").hidden = true;
  } catch (error) {
    byId("notice").textContent = error.message;
    byId("notice").hidden = false;
  }
}

/** Draw the page by `refresh()` whenever the stream says so, for ever. */
export function live(refresh) {
  follow("/_sim/desk/live", () => attempt(refresh), (yes) => {
    byId("live").dataset.on = yes ? "yes" : "";
    byId("live").textContent = yes ? "Live" : "Connecting …";
  });
}
