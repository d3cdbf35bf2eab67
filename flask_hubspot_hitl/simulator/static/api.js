// Calls of the control routes, and the stream of server-sent events that says when to ask again.

// Open "/#token=…" when the stand-in wants a control token. EventSource can't send one, so `follow` reads the stream.
const token = new URLSearchParams(location.hash.slice(1)).get("token");
const SILENCE_MS = 25_000; // the server gives a sign of life every 10 s

function headers(more) {
  return token ? { ...more, Authorization: `Bearer ${token}` } : more;
}

/** A call with a JSON body, if any; its JSON. Throws an Error that says what went wrong. */
export async function call(method, path, body) {
  const sent = body === undefined ? {} : { body: JSON.stringify(body) };
  const type = body === undefined ? {} : { "Content-Type": "application/json" };
  const answer = await fetch(path, { method, headers: headers(type), ...sent });
  const data = await answer.json();
  if (!answer.ok) throw new Error(data.message || `HTTP ${answer.status}`);
  return data;
}

/** Read the stream for ever: `changed()` at each event, `connected(yes)` when it begins and when it breaks. */
export async function follow(path, changed, connected) {
  for (let wait = 250; ; wait = Math.min(wait * 2, 4000)) {
    const stop = new AbortController();
    let silence = setTimeout(() => stop.abort(), SILENCE_MS);
    try {
      const answer = await fetch(path, { headers: headers(), signal: stop.signal });
      if (!answer.ok) throw new Error(`HTTP ${answer.status}`);
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      connected(true);
      wait = 250;
      for (let rest = ""; ;) {
        const { value, done } = await reader.read();
        if (done) break;
        clearTimeout(silence);
        silence = setTimeout(() => stop.abort(), SILENCE_MS);
        const blocks = (rest + value).split("\n\n");
        rest = blocks.pop();
        if (blocks.some((block) => block.startsWith("event: change"))) changed();
      }
    } catch {
      // no server, or not ready: below we say so and try again
    }
    clearTimeout(silence);
    connected(false);
    await new Promise((resolve) => setTimeout(resolve, wait));
  }
}
