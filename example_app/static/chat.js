// Asks once a second for what was said, and posts what the user does. Everything shown goes through textContent.
"use strict";

const routes = document.body.dataset;
const byId = (id) => document.getElementById(id);
const list = byId("messages");
let last = 0;
let asking = false;

function make(tag, text, className) {
  const node = document.createElement(tag);
  node.textContent = text;
  node.className = className || "";
  return node;
}

function fileNode(file) {
  if (!/^https?:\/\//.test(file.url)) return make("span", "📎 " + file.name, "file");
  const link = make("a", "📎 " + file.name, "file");
  link.href = file.url;
  link.target = "_blank";
  link.rel = "noopener noreferrer";
  return link;
}

function show(entry) {
  const item = make("li", "", entry.speaker);
  const name = entry.speaker === "agent" ? entry.name : entry.speaker === "bot" ? "Bot" : "";
  if (name) item.append(make("small", name));
  if (entry.text) item.append(make("span", entry.text));
  item.append(...entry.files.map(fileNode));
  list.append(item);
}

function complain(text) {
  byId("problem").textContent = text;
  byId("problem").hidden = !text;
}

const states = {
  bot: () => "The bot is here.",
  starting: () => "Calling our team …",
  waiting: () => "Waiting for somebody of our team …",
  assigned: (operator) => "You are talking to " + (operator || "our team") + ".",
};

async function ask() {
  if (asking) return;
  asking = true;
  try {
    const answer = await fetch(routes.messages + "?after=" + last);
    if (!answer.ok) throw new Error(answer.statusText);
    const found = await answer.json();
    for (const entry of found.messages) {
      show(entry);
      last = entry.number;
    }
    if (found.messages.length) list.scrollTop = list.scrollHeight;
    byId("state").textContent = (states[found.state] || states.waiting)(found.operator);
    byId("call").hidden = found.state !== "bot";
    byId("stop").hidden = found.state === "bot";
  } catch {
    byId("state").textContent = "No connection; trying again …";
  } finally {
    asking = false;
  }
}

async function post(url, body) {
  complain("");
  try {
    const answer = await fetch(url, { method: "POST", body });
    const found = await answer.json();
    if (!answer.ok) throw new Error(found.error);
    await ask();
    return found;
  } catch (error) {
    complain(error.message || "That did not work; please try again.");
    return null;
  }
}

// The id stays the same until a message was taken, so that sending it again is never a second message.
let messageId = null;

byId("composer").addEventListener("submit", async (event) => {
  event.preventDefault();
  const form = event.target;
  const body = new FormData(form);
  messageId = messageId || Date.now().toString(36) + "-" + Math.random().toString(36).slice(2).padEnd(8, "0");
  body.append("id", messageId);
  form.lastElementChild.disabled = true;
  const found = await post(routes.messages, body);
  form.lastElementChild.disabled = false;
  if (!found) return;
  messageId = null;
  form.reset();
  if (found.wants_human) byId("call").open = true;
});

byId("composer").addEventListener("keydown", (event) => {
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing && event.target.name === "text") {
    event.preventDefault();
    byId("composer").requestSubmit();
  }
});

byId("human").addEventListener("submit", async (event) => {
  event.preventDefault();
  if (await post(routes.human, new FormData(event.target))) byId("call").open = false;
});

byId("stop").addEventListener("click", () => post(routes.stop, new FormData()));

setInterval(ask, 1000);
ask();
