// A prompt, answered by the chosen point and by the dense model beside each other.

import { fetched } from "./api.js";
import { make, problemBox } from "./dom.js";

export function tryPanel(job, signal) {
  const problem = make("div");
  const prompt = make("textarea", { id: "prompt", rows: 3, maxlength: 20000, required: true, spellcheck: "false", placeholder: "A text to go on with" });
  const tokens = make("input", { type: "number", id: "tokens", min: 1, max: 1024, value: 96 });
  const chat = make("input", { type: "checkbox", id: "is-chat" });
  const ask = make("button", { class: "primary" }, "Try it"), stop = make("button", { type: "button", hidden: true }, "Stop");
  const boxes = {}, speeds = {};
  const answers = make("div", { class: "answers", hidden: true });
  for (const who of ["point", "dense"]) {
    boxes[who] = make("pre", { "aria-label": who === "dense" ? "Answer of the dense model" : "Answer of the point" });
    speeds[who] = make("small", { class: "ci" });
    answers.append(make("div", {}, make("b", {}, who === "dense" ? "Dense" : ""), " ", speeds[who], boxes[who]));
  }
  const title = answers.querySelector("b");
  const form = make(
    "form",
    { class: "talk", onsubmit: (event) => (event.preventDefault(), run()) },
    make("label", { for: "prompt" }, "Prompt"),
    prompt,
    make("p", { class: "inline" }, ask, stop, make("label", { for: "tokens" }, "at most "), tokens, "tokens", make("label", { for: "is-chat" }, chat, " as a chat turn")),
    problem,
    answers,
  );
  const panel = make("div", { class: "exporting" }, make("h3", {}, "Try it"), make("p", { class: "lead" }, "The chosen point, unpacked, beside the dense model; both take the likeliest tokens."), form);
  let point = "", running = null;

  function told(piece) {
    if (piece.error) throw new Error(piece.error);
    boxes[piece.who].append(piece.text);
    if (piece.num_tokens > 1) speeds[piece.who].textContent = piece.num_tokens + " tokens, " + (piece.num_tokens / piece.seconds).toFixed(1) + " a second";
  }
  async function run() {
    running?.abort();
    const mine = (running = new AbortController());
    signal.addEventListener("abort", () => mine.abort());
    problem.replaceChildren();
    for (const who of ["point", "dense"]) boxes[who].textContent = speeds[who].textContent = "";
    title.textContent = point;
    answers.hidden = stop.hidden = false;
    ask.disabled = true;
    answers.setAttribute("aria-busy", "true");
    try {
      const body = { prompt: prompt.value, point, is_chat: chat.checked, max_tokens: Number(tokens.value) };
      const answer = await fetched("/v1/jobs/" + encodeURIComponent(job) + "/answers", { method: "POST", body, signal: mine.signal });
      const reader = answer.body.pipeThrough(new TextDecoderStream()).getReader();
      let rest = "";
      for (let part = await reader.read(); !part.done; part = await reader.read()) {
        const lines = (rest + part.value).split("\n");
        rest = lines.pop();
        for (const line of lines) if (line) told(JSON.parse(line));
      }
    } catch (error) {
      if (error.name !== "AbortError") problem.replaceChildren(problemBox(error));
    }
    if (mine !== running) return; // another prompt was asked meanwhile
    answers.removeAttribute("aria-busy");
    ask.disabled = false;
    stop.hidden = true;
  }
  stop.addEventListener("click", () => running.abort());
  return {
    choose(id) {
      point = id;
      ask.textContent = "Try " + id;
    },
    into(detail, id) {
      this.choose(id);
      detail.querySelector(".terminal").after(panel);
    },
  };
}
