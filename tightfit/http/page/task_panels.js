// What is done with a point by whoever works: its export and its recovery, begun here and followed to their end.

import { ask } from "./api.js";
import { klText, make, problemBox, sizeText } from "./dom.js";

const REFRESH_MS = 1500;
const MOVING = ["QUEUED", "RUNNING"];

// A panel of one kind of task. `words` are its texts, `asked` returns the request, `told` what a task that is done says,
// `done` hears of a task that ends while the panel is open.
function taskPanel({ job, kind, noun, words, controls, asked, told, done = () => {} }, signal) {
  const path = "/v1/jobs/" + encodeURIComponent(job) + "/" + kind;
  const problem = make("div"), list = make("ul", { class: "tasks", "aria-live": "polite" });
  const begin = make("button", { type: "button", class: "primary" }, words.begin);
  const panel = make(
    "div",
    { class: "exporting" },
    make("h3", {}, words.title),
    make("p", { class: "lead" }, words.lead),
    make("p", { class: "inline" }, begin, controls),
    problem,
    list,
  );
  let point = "", timer = null;

  const safely = (work) => async () => {
    try {
      await work();
      problem.replaceChildren();
    } catch (error) {
      if (error.name !== "AbortError") problem.replaceChildren(problemBox(error));
    }
  };
  const address = (task, rest) => "/v1/" + kind + "/" + encodeURIComponent(task.task) + rest;
  async function start() {
    begin.disabled = true;
    try {
      await ask(path, { method: "POST", body: { point, ...asked() }, signal });
    } finally {
      begin.disabled = false;
    }
    await refresh();
  }
  begin.addEventListener("click", safely(start));

  const button = (task, verb) => {
    const act = async () => (await ask(address(task, "/" + (verb === "Stop" ? "cancel" : "resume")), { method: "POST", signal }), await refresh());
    return make("button", { type: "button", "aria-label": verb + " the " + noun + " of " + task.point, onclick: safely(act) }, verb);
  };
  function line(task) {
    const moving = MOVING.includes(task.state), state = task.is_stopped ? "stopped" : task.state.toLowerCase();
    const below = make("div");
    const parts = [make("b", {}, task.point), " ", make("span", { class: "state " + state }, state), " "];
    if (moving && task.share_done !== null) parts.push(make("progress", { max: 1, value: task.share_done, "aria-label": "Share done" }), " ");
    if (moving) parts.push(make("span", { class: "ci" }, task.progress), " ", button(task, "Stop"));
    else if (task.state !== "DONE") parts.push(button(task, "Resume"));
    if (task.result) parts.push(...told(task, below, safely, address));
    if (task.error) parts.push(make("span", { class: "ci" }, task.error));
    return make("li", { "data-key": task.task, "data-state": task.state }, parts, below);
  }
  async function refresh() {
    clearTimeout(timer);
    const tasks = (await ask(path, { signal }))[kind];
    let ended = false;
    tasks.forEach((task, at) => {
      const row = list.children[at], is_same = row?.dataset.key === task.task && row.dataset.state === task.state;
      if (is_same && !MOVING.includes(task.state)) return; // its files may be open
      ended ||= row?.dataset.key === task.task && task.state === "DONE";
      if (row?.dataset.key === task.task) row.replaceWith(line(task));
      else list.insertBefore(line(task), row || null);
    });
    if (tasks.some((task) => MOVING.includes(task.state))) timer = setTimeout(safely(refresh), REFRESH_MS);
    if (ended) await done();
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  safely(refresh)();
  return {
    choose(id) {
      point = id;
      begin.textContent = words.begin + " " + id;
    },
    into(detail, id) {
      this.choose(id);
      detail.querySelector(".terminal").after(panel);
    },
  };
}

export function exportPanel(job, signal) {
  const refit = make("input", { type: "checkbox", id: "refit", checked: true });
  const words = {
    begin: "Export",
    title: "Export this point",
    lead: "Writes the checkpoint on the service's machine, loads it again in a fresh process and compares it with the record.",
  };
  async function showFiles(task, place, address) {
    const { files } = await ask(address(task, "/files"), { signal });
    const link = (file) => make("a", { href: address(task, "/files/" + encodeURIComponent(file.name)), download: file.name, title: file.sha256 ? "sha256 " + file.sha256 : null }, file.name);
    place.replaceChildren(make("ul", { class: "parts" }, files.map((file) => make("li", {}, link(file), " " + sizeText(file.size_bytes)))));
  }
  const told = (task, below, safely, address) => [
    make("span", { class: "ci" }, "verified: " + sizeText(task.result.size_bytes) + ", KL " + klText(task.result.kl_divergence)),
    " ",
    make("button", { type: "button", "aria-label": "Files of the export of " + task.point, onclick: safely(() => showFiles(task, below, address)) }, "Files"),
  ];
  const controls = make("label", { for: "refit" }, refit, " fit it once more where that helps");
  const asked = () => ({ refit: refit.checked ? null : false });
  return taskPanel({ job, kind: "exports", noun: "export", words, controls, asked, told }, signal);
}

const METHODS = [
  ["", "the cheapest that helps, then the next"],
  ["refit", "fit levels once more"],
  ["scales", "train scales"],
  ["low-rank", "train low-rank corrections"],
  ["restore", "train what pruning left"],
  ["quantization-aware", "train codes"],
];

// `done` hears of recoveries that end: the front may have one more point.
export function recoveryPanel(job, signal, done) {
  const method = make("select", { id: "method" }, METHODS.map(([value, name]) => make("option", { value }, name)));
  const minutes = make("input", { id: "minutes", type: "number", min: 1, max: 100000, placeholder: "all" });
  const words = {
    begin: "Recover",
    title: "Make this point better in the same bytes",
    lead: "Its values are trained towards the dense model's answers. Kept, as a point of its own, only where held-out text shows it.",
  };
  const controls = [make("label", { for: "method" }, "by: "), method, make("label", { for: "minutes" }, "minutes for each: "), minutes];
  const asked = () => ({ method: method.value || null, minutes: minutes.value ? Number(minutes.value) : null });
  async function linkTo(task, place) {
    const address = encodeURIComponent(job), { front } = await ask("/v1/jobs/" + address + "/front", { signal });
    const made = front.find((point) => point.recovered?.task === task.task);
    if (made) place.replaceChildren(make("a", { href: "#/jobs/" + address + "/" + encodeURIComponent(made.point) }, made.point));
  }
  function told(task) {
    const place = make("span");
    if (task.result.point) linkTo(task, place).catch(() => {}); // the front has it too
    return [make("span", { class: "ci" }, task.result.told), " ", place];
  }
  return taskPanel({ job, kind: "recoveries", noun: "recovery", words, controls, asked, told, done }, signal);
}
