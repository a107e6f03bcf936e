// A model's folder, sent to the service in parts: what is there already is not sent again, so that who was cut off goes on.

import { ask } from "./api.js";
import { make, problemBox, sizeText } from "./dom.js";
import { Sha256, hex } from "./sha256.js";

const PART_BYTES = 4 * 2 ** 20;
const MOST_TRIES = 8; // at one place of a file
const LONGEST_PAUSE_MS = 8000;
const NAME = /^[A-Za-z0-9][A-Za-z0-9._-]{0,199}$/;

// What a pattern such as "*.safetensors" means.
const matcher = (pattern) => new RegExp("^" + pattern.replace(/[.+^${}()|\\]/g, "\\$&").replace(/\*/g, ".*") + "$");
const base64 = (bytes) => btoa(String.fromCharCode(...bytes));
const pieceOf = async (file, begin) => new Uint8Array(await file.slice(begin, begin + PART_BYTES).arrayBuffer());

// Returns how a folder is called, in characters that any disk has.
function folderName(file) {
  const text = file.webkitRelativePath.split("/")[0].replace(/[^A-Za-z0-9._-]/g, "-");
  return text.replace(/^[._-]+|[._-]+$/g, "").slice(0, 100) || "model";
}

async function sha256Of(file, signal, heard) {
  const whole = new Sha256();
  for (let at = 0; at < file.size; at += PART_BYTES) {
    signal.throwIfAborted();
    const piece = await pieceOf(file, at);
    whole.add(piece);
    heard(piece.length);
  }
  return hex(whole.digest());
}

// Sends a file from where the service says that it is; where that breaks off, it asks and goes on.
async function send(path, file, begin, signal, heard) {
  let at = begin, tries = 0;
  heard(at);
  do {
    const piece = await pieceOf(file, at);
    const digest = "sha-256=:" + base64(new Sha256().add(piece).digest()) + ":";
    const more = { "Content-Type": "application/octet-stream", "Content-Digest": digest };
    try {
      await ask(path + "/files/" + encodeURIComponent(file.name) + "?offset=" + at, { method: "PUT", raw: piece, more, signal });
      at += piece.length;
      tries = 0;
    } catch (error) {
      const passes = error.status === 0 || error.status === 409 || error.status >= 500;
      if (error.name === "AbortError" || !passes || ++tries > MOST_TRIES) throw error;
      await new Promise((done) => setTimeout(done, Math.min(LONGEST_PAUSE_MS, 250 * 2 ** tries)));
      at = await offsetOf(path, file, at, signal);
    }
    heard(at);
  } while (at < file.size);
}

async function offsetOf(path, file, before, signal) {
  try {
    return (await ask(path, { signal })).files.find((found) => found.name === file.name).received_bytes;
  } catch (error) {
    if (error.name === "AbortError") throw error;
    return before; // it does not answer yet
  }
}

// Announces files, sends what is missing, and returns what a request names the model by.
async function upload(files, signal, tell) {
  const total = files.reduce((sum, file) => sum + file.size, 0);
  let read = 0;
  const announced = [];
  for (const file of files) {
    const sha256 = await sha256Of(file, signal, (bytes) => tell("Reading " + file.name, (read += bytes), total));
    announced.push({ name: file.name, size_bytes: file.size, sha256 });
  }
  const begun = await ask("/v1/uploads", { method: "POST", body: { name: folderName(files[0]), files: announced }, signal });
  const path = "/v1/uploads/" + encodeURIComponent(begun.upload);
  let sent = begun.received_bytes;
  for (const { name, size_bytes, received_bytes } of begun.files) {
    if (received_bytes === size_bytes && (size_bytes || begun.state === "READY")) continue;
    const before = sent - received_bytes;
    await send(path, files.find((file) => file.name === name), received_bytes, signal, (at) => tell("Sending " + name, (sent = before + at), total));
  }
  const { state, model } = await ask(path, { signal });
  if (state !== "READY") throw new Error("The service has all files and does not call them ready. Choose the folder again.");
  return model;
}

// A field that takes a folder; `ready` hears what the sent model is called, `accepted` are patterns of files.
export function uploadPanel(accepted, signal, ready) {
  const input = make("input", { type: "file", id: "folder", webkitdirectory: true, multiple: true, "aria-describedby": "folder-note" });
  const bar = make("progress", { max: 1, value: 0, "aria-label": "Share of the upload" }), words = make("span", { class: "ci" });
  const stop = make("button", { type: "button" }, "Stop the upload");
  const going = make("p", { class: "inline", hidden: true }, bar, words, stop), problem = make("div", { "aria-live": "polite" });
  let running = null;
  stop.addEventListener("click", () => running.abort());
  signal.addEventListener("abort", () => running?.abort());

  function tell(what, bytes, total) {
    bar.value = total ? bytes / total : 1;
    words.textContent = what + ", " + sizeText(bytes) + " of " + sizeText(total);
  }
  async function run() {
    const patterns = accepted.map(matcher);
    const mine = [...input.files].filter((file) => file.webkitRelativePath.split("/").length === 2); // none of a folder in it
    const taken = mine.filter((file) => NAME.test(file.name) && patterns.some((pattern) => pattern.test(file.name)));
    const left = mine.filter((file) => !taken.includes(file)).map((file) => file.name);
    if (!taken.length) return void problem.replaceChildren(problemBox(new Error("This folder holds no file of a model. Choose the one that has its config.json.")));
    running = new AbortController();
    input.disabled = true;
    going.hidden = false;
    problem.replaceChildren();
    try {
      ready(await upload(taken, running.signal, tell));
      problem.replaceChildren(make("small", {}, "Sent." + (left.length ? " Left out, since no model has such files: " + left.join(", ") + "." : "")));
    } catch (error) {
      const told = error.name === "AbortError" ? new Error("Stopped. Choose the folder again, and it goes on.") : error;
      problem.replaceChildren(problemBox(told));
    }
    input.disabled = false;
    input.value = ""; // the same folder may be chosen again
    going.hidden = true;
  }
  input.addEventListener("change", () => input.files.length && run());
  return make(
    "div",
    { class: "field" },
    make("label", { for: "folder" }, "Or a folder of yours"),
    input,
    make("small", { id: "folder-note" }, "Its safetensors, config and tokenizer are sent in parts; broken off, it goes on."),
    going,
    problem,
  );
}
