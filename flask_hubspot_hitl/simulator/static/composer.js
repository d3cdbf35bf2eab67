// Writing: a draft for each conversation with its files, chosen, pasted or dropped; replies and internal notes.

import { byId, make, unmasked } from "./design/dom.js";

const composer = byId("composer");
const text = byId("text");
const drafts = new Map(); // thread id -> { text, files, mode }
const underWay = new Map(); // thread id -> drafts that were sent and are not taken yet, in order
const EMPTY = { text: "", files: [], mode: "reply" };
let files = [];

const mode = () => composer.elements.mode.value;

/** Keep what is written for a conversation. */
export function keepDraft(id) {
  if (id) drafts.set(id, { text: text.value, files, mode: mode() });
}

/** Show what was written for a conversation; with none there is an empty text. */
export function takeDraft(id) {
  show(drafts.get(id) || EMPTY);
}

function show(draft) {
  text.value = draft.text;
  files = draft.files;
  setMode(draft.mode);
  drawFiles();
}

/** Two drafts as one. It is a note if either is: what only agents may see must not get to the visitor. */
const joined = (one, two) => ({
  text: [one.text, two.text].filter(Boolean).join("\n"),
  files: [...one.files, ...two.files],
  mode: [one.mode, two.mode].includes("comment") ? "comment" : "reply",
});

function setMode(value) {
  composer.elements.mode.value = value;
  composer.classList.toggle("noting", value === "comment");
  text.placeholder = value === "comment" ? "Only agents see this" : "Write to the visitor";
  byId("send-label").textContent = value === "comment" ? "Add note" : "Send";
}

/** Go to the text, to write a reply or a comment. */
export function write(as) {
  setMode(as);
  text.focus();
}

function drawFiles() {
  byId("chosen").replaceChildren(...files.map((file) => {
    const name = unmasked(file.name);
    const remove = make("button", { type: "button", title: "Take it away" }, "×", make("span", { className: "hidden" }, ` Take ${name} away`));
    remove.addEventListener("click", () => { files = files.filter((one) => one !== file); drawFiles(); text.focus(); });
    return make("li", { className: "file" }, make("bdi", {}, name), remove);
  }));
}

function addFiles(more) {
  files = [...files, ...more];
  drawFiles();
  text.focus();
}

const inBase64 = (file) => new Promise((resolve, reject) => {
  const reader = new FileReader();
  reader.onload = () => resolve(reader.result.slice(reader.result.indexOf(",") + 1));
  reader.onerror = () => reject(new Error(`${file.name} can't be read`));
  reader.readAsDataURL(file);
});

const encoded = async (file) =>
  ({ name: file.name, contentType: file.type || "application/octet-stream", content: file.size ? await inBase64(file) : "" });

/** Wire the composer: `chosen()` is the conversation's id, `verb(name, body)` sends, `notice(error)` says what failed. */
export function compose({ chosen, verb, notice }) {
  /** Send what is written when all before it was taken. The box is free at once; what can't be sent comes back to it. */
  async function send() {
    if (!(text.value.trim() || files.length)) return;
    const to = chosen();
    const waiting = underWay.get(to) || [];
    waiting.push({ text: text.value, files, mode: mode() });
    show({ ...EMPTY, mode: mode() });
    if (waiting.length > 1) return; // it is sent below, when its turn comes
    underWay.set(to, waiting);
    while (waiting.length && await taken(to, waiting[0])) waiting.shift();
    underWay.delete(to);
    if (waiting.length) putBack(to, waiting);
  }

  async function taken(to, draft) {
    try {
      const attachments = await Promise.all(draft.files.map(encoded));
      if (chosen() !== to) throw new Error("Not sent: you went to another conversation. What you wrote is still in its own.");
      return await verb(draft.mode, { text: draft.text, attachments });
    } catch (error) {
      notice(error);
      return false;
    }
  }

  /** Put what was not sent in front of what was written since, in the conversation that it is for. */
  function putBack(to, unsent) {
    if (chosen() === to) keepDraft(to);
    drafts.set(to, [...unsent, drafts.get(to) || EMPTY].reduce(joined));
    if (chosen() === to) takeDraft(to);
  }

  composer.addEventListener("submit", (event) => { event.preventDefault(); send(); });
  composer.addEventListener("change", (event) => { if (event.target.name === "mode") setMode(mode()); });
  text.addEventListener("keydown", (event) => {
    if (event.key === "Enter" && !event.shiftKey && !event.isComposing) { event.preventDefault(); send(); }
  });
}

byId("file").addEventListener("change", (event) => { addFiles(event.target.files); event.target.value = ""; });
text.addEventListener("paste", (event) => { if (event.clipboardData.files.length) addFiles(event.clipboardData.files); });

// --- dropping

const place = byId("thread");
const holdsFiles = (event) => event.dataTransfer?.types.includes("Files") && !composer.hidden;

place.addEventListener("dragover", (event) => {
  if (!holdsFiles(event)) return;
  event.preventDefault();
  byId("drop").hidden = false;
});
place.addEventListener("dragleave", (event) => {
  if (!place.contains(event.relatedTarget)) byId("drop").hidden = true;
});
place.addEventListener("drop", (event) => {
  byId("drop").hidden = true;
  if (!holdsFiles(event)) return;
  event.preventDefault();
  addFiles(event.dataTransfer.files);
});
for (const name of ["dragover", "drop"]) { // beside the conversation a file must not replace the page
  window.addEventListener(name, (event) => { if (event.dataTransfer?.types.includes("Files")) event.preventDefault(); });
}
