// Calls of the control routes, and the stream of server-sent events that says when to ask again.

// Open "/#token=…" when the stand-in wants a control token. EventSource can't send one, so `follow` reads the stream.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const SILENCE_MS = 25_000; // the server gives a sign of life every 10 s
const LOOK_MS = 2_000;
const LONGEST_WAIT_MS = 4_000;

function headers(more) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** A call with a JSON body, if any; its JSON. Throws an Error that says what went wrong. */
export async function call(method, path, body) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  let answer;
  let data;
  try {
    answer = await fetch(path, { method, headers: headers(type), ...sent });
    data = await answer.json();
  } catch {
    throw Object.assign(new Error("Not done: the stand-in does not answer. What you wrote is still here."), { away: true });
  }
  if (!answer.ok) throw new Error(data.message || `HTTP ${answer.status}`);
  return data;
}

let wake = () => {};

/** Connect again at once, instead of waiting for the next try or for the silence to be long enough. */
export const connectNow = () => wake(true);

/**
 * Read the stream for ever: `changed()` at each event, `connected(yes)` when it begins and when it breaks.
 *
 * A machine that slept, or whose network was away, has a stream that looks open and says nothing: a clock that jumped,
 * and a page that is seen again, are reasons to look whether it still gives signs of life.
 */
export async function follow(path, changed, connected) {
  let heard = Date.now();
  let looked = Date.now();
  const look = () => {
    const now = Date.now();
    const slept = now - looked > 5 * LOOK_MS;
    looked = now;
    if (slept || now - heard > SILENCE_MS) wake();
  };
  setInterval(look, LOOK_MS);
  document.addEventListener("visibilitychange", look);
  window.addEventListener("pageshow", look);
  window.addEventListener("online", () => wake());
  window.addEventListener("offline", () => wake());
  for (let wait = 250; ; wait = Math.min(wait * 2, LONGEST_WAIT_MS)) {
    const stop = new AbortController();
    wake = () => stop.abort();
    try {
      const answer = await fetch(path, { headers: headers(), signal: stop.signal });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      heard = Date.now();
      connected(true);
      wait = 250;
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        heard = Date.now();
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        if (blocks.some((block) => block.startsWith("event: change"))) changed();
      }
    } catch {
      // no server, not ready, or asked to connect anew: below we say so and try again
    }
    connected(false);
    await new Promise((resolve) => { wake = resolve; setTimeout(resolve, wait); });
  }
}
