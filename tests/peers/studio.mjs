// Runs a snippet as an Execute Code card of Botpress Studio would: node studio.mjs < {"snippet", "event", "env", "workflow"}
// The card's axios is played by fetch: an answer that is not 2xx, or none in time, is an error.
let given = "";
for await (const chunk of process.stdin) given += chunk;
const { snippet, event, env, workflow } = JSON.parse(given);

const axios = {
  async post(url, body, { headers, timeout }) {
    const answer = await fetch(url, {
      method: "POST",
      headers: { "Content-Type": "application/json", ...headers },
      body: JSON.stringify(body),
      signal: AbortSignal.timeout(timeout),
    });
    if (!answer.ok) throw new Error(`Request failed with status code ${answer.status}`);
    return { status: answer.status, data: await answer.json() };
  },
};
const console_ = { log: (...parts) => logged.push(parts.join(" ")) };
const logged = [];
const AsyncFunction = (async () => {}).constructor;
await new AsyncFunction("event", "env", "workflow", "axios", "console", snippet)(event, env, workflow, axios, console_);
process.stdout.write(JSON.stringify({ workflow, logged }));
