// The form of a new job, with an answer while it is filled in: what can be reached, and what it would cost.

import { ask } from "./api.js";
import { make, problemBox, sizeText, timeText } from "./dom.js";
import { uploadPanel } from "./upload_panel.js";

const PAUSE_MS = 500;
const list = (text) => text.split(",").map((part) => part.trim()).filter(Boolean);
const whole = (text) => list(text).map(Number);

// name, label, note, type, what the field's text means; an empty field is left to the service
const FIELDS = [
  { name: "model", label: "Model", note: "A folder on the service's machine, org/name[@revision], or bundled.", value: "bundled", read: (t) => t },
  { name: "budget", label: "Memory budget", note: "4GiB, 3.5MB, 60% of dense, 3.25bpw, or 30tok/s@273GB/s.", value: "60%", read: (t) => t },
  { name: "preset", label: "How much work", options: [""], note: " ", read: (t) => t },
  { name: "target", label: "For", options: ["packed"], read: (t) => t },
  { name: "calibration", label: "Calibration text", note: "A file on the service's machine, a dataset, or python-stdlib; empty: sampled from the model.", read: (t) => t },
];
const MORE = [
  { name: "context", label: "KV cache: tokens", type: "number", note: "Inside the budget.", read: Number },
  { name: "batch", label: "KV cache: sequences", type: "number", read: Number },
  { name: "cache_bits", label: "KV cache: bits", note: "Such as 16,8,4: each layer its own.", read: whole },
  { name: "gpu_generation", label: "Hardware, for vLLM", options: ["", "cpu", "turing", "ampere", "ada", "hopper"], read: (t) => t },
  { name: "bits", label: "Bits", note: "Such as 2,3,4.", read: whole },
  { name: "group_sizes", label: "Group sizes", note: "Such as 32,64,channel.", read: (t) => list(t).map((v) => (v === "channel" ? null : Number(v))) },
  { name: "sparsities", label: "Sparsity", note: "Such as 0,0.5,2:4.", read: (t) => list(t).map((v) => (v.includes(":") ? v : Number(v))) },
  { name: "ranks", label: "Ranks", note: "Such as 0,16.", read: whole },
  { name: "kinds", label: "Kinds of level", note: "Such as integer,rotated-trellis.", read: list },
  { name: "judge", label: "Your own questions", note: "A JSONL file on the service's machine: prompt and answer, or choices.", read: (t) => t },
  { name: "max_trials", label: "Most trials", type: "number", note: "Empty: as many as the model needs.", read: Number },
  { name: "max_minutes", label: "Most minutes", type: "number", read: Number },
  { name: "workers", label: "Workers", type: "number", read: Number },
  { name: "seed", label: "Seed", type: "number", read: Number },
];

const TOLD = [
  { name: "label", label: "Label", note: "What you call this job; the list can be searched by it.", maxlength: 100 },
  { name: "note", label: "Note", rows: 2, maxlength: 10000 },
];

function field({ name, label, note, type = "text", value = "", options, rows, maxlength }) {
  const id = "field-" + name, described = note && id + "-note";
  const input = options
    ? make("select", { id, name, "aria-describedby": described }, options.map((o) => make("option", { value: o }, o)))
    : rows
    ? make("textarea", { id, name, rows, maxlength, "aria-describedby": described })
    : make("input", { id, name, type, value, maxlength, "aria-describedby": described, autocomplete: "off", spellcheck: "false", step: "any", min: type === "number" ? 0 : null });
  return make("div", { class: "field" }, make("label", { for: id }, label), input, note && make("small", { id: described }, note));
}

function found(told) {
  const rows = [
    ["Dense", sizeText(told.dense_bytes)],
    ["Budget", sizeText(told.budget_bytes) + " (" + Math.round((100 * told.budget_bytes) / told.dense_bytes) + "% of dense)"],
    ["Reachable", sizeText(told.smallest_bytes) + " to " + sizeText(told.largest_bytes)],
    ["Time", "about " + timeText(told.seconds)],
    ["Disk", "at most " + sizeText(told.disk_bytes)],
    ["Modules", String(told.modules.length)],
    ["Plans", "about 10^" + (told.num_plans.length - 1)],
  ];
  if (told.key_value_bytes) rows.splice(2, 0, ["KV cache", sizeText(told.key_value_bytes) + " of it"]);
  const shown = (value) => (value === null ? "channel" : Array.isArray(value) ? value.map(shown).join(", ") : String(value));
  const request = Object.entries(told.request).filter(([, value]) => value !== null && !(Array.isArray(value) && !value.length));
  const uniform = told.uniform.map((u) => make("li", {}, u.level + " ", make("b", {}, sizeText(u.size_bytes))));
  return make(
    "div",
    {},
    make("dl", { class: "origin" }, rows.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, value)))),
    uniform.length ? make("h3", {}, "Uniform plans, for comparison") : "",
    make("ul", { class: "parts" }, uniform),
    make("details", { id: "request" }, make("summary", {}, "All that is asked"), make("dl", { class: "origin" }, request.map(([name, value]) => make("div", {}, make("dt", {}, name), make("dd", {}, shown(value)))))),
  );
}

export async function submitView(main, signal) {
  const answer = make("div", { id: "inspection", "aria-live": "polite" }), problem = make("div");
  const submit = make("button", { class: "primary" }, "Submit");
  const form = make(
    "form",
    { class: "form" },
    FIELDS.map(field),
    make("details", { id: "told" }, make("summary", {}, "Label and note"), make("div", { class: "form" }, TOLD.map(field))),
    make("details", {}, make("summary", {}, "More options"), make("div", { class: "columns" }, MORE.map(field))),
    problem,
    submit,
  );
  main.append(make("h1", {}, "New job"), make("div", { class: "beside" }, make("section", {}, form), make("section", { class: "card", "aria-label": "What it would cost" }, make("h2", {}, "Before anything runs"), answer)));

  function spec() {
    const values = {};
    for (const { name, read } of [...FIELDS, ...MORE]) {
      const text = form.elements[name].value.trim();
      if (text) values[name] = read(text);
    }
    const [model, revision] = String(values.model || "").split("@");
    if (revision && model.split("/").length === 2) Object.assign(values, { model, revision });
    return values;
  }
  let pending = null, asked = null;
  async function inspect() {
    asked?.abort();
    asked = new AbortController();
    signal.addEventListener("abort", () => asked.abort());
    const values = spec();
    if (!values.model || !values.budget) return void answer.replaceChildren(make("p", { class: "lead" }, "A model and a budget are needed."));
    if (!answer.firstChild) answer.replaceChildren(make("p", { class: "lead" }, "Looking at the model…"));
    answer.setAttribute("aria-busy", "true");
    try {
      const told = await ask("/v1/inspect", { method: "POST", body: values, signal: asked.signal });
      answer.replaceChildren(found(told));
    } catch (error) {
      if (error.name === "AbortError") return;
      answer.replaceChildren(problemBox(error));
    }
    answer.removeAttribute("aria-busy");
  }
  form.addEventListener("input", () => {
    clearTimeout(pending);
    pending = setTimeout(inspect, PAUSE_MS);
  });
  form.addEventListener("submit", async (event) => {
    event.preventDefault();
    submit.disabled = true;
    try {
      const job = await ask("/v1/jobs", { method: "POST", body: spec(), signal });
      const told = TOLD.map(({ name }) => [name, form.elements[name].value.trim()]).filter(([, text]) => text);
      if (told.length) await ask("/v1/jobs/" + encodeURIComponent(job.job), { method: "PATCH", body: Object.fromEntries(told), signal });
      location.hash = "#/jobs/" + encodeURIComponent(job.job);
    } catch (error) {
      if (error.name !== "AbortError") problem.replaceChildren(problemBox(error));
    }
    submit.disabled = false;
  });
  try {
    const { targets, presets, upload_files } = await ask("/v1/about", { signal });
    const named = (model) => {
      form.elements.model.value = model;
      inspect();
    };
    form.elements.model.closest(".field").after(uploadPanel(upload_files, signal, named));
    form.elements.target.replaceChildren(...targets.map((name) => make("option", { value: name }, name)));
    const choice = form.elements.preset, told = form.querySelector("#field-preset-note");
    const tell = () => {
      const { summary } = presets.find((p) => p.name === choice.value);
      told.replaceChildren(summary[0].toUpperCase() + summary.slice(1) + ".");
    };
    choice.replaceChildren(...presets.map(({ name }) => make("option", { value: name, selected: name === "balanced" }, name)));
    choice.addEventListener("input", tell);
    tell();
  } catch (unknown) {
    if (unknown.status === 401) throw unknown;
  }
  form.elements.model.focus();
  inspect();
}
