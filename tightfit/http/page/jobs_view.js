// The list of jobs: state, best KL, budget, progress, time left, and a stop button; kept current.

import { ask } from "./api.js";
import { keyed, klText, make, modelName, problemBox, timeText } from "./dom.js";

const REFRESH_MS = 3000;
const MOVING = ["QUEUED", "RUNNING"];

export function stateBadge(job) {
  const text = job.is_stopped ? "stopped" : job.state.toLowerCase();
  return make("span", { class: "state " + text }, text);
}

export function progressBar(job) {
  const share = job.state === "DONE" ? 1 : job.share_done;
  if (share === null || share === undefined) return make("span", { class: "ci" }, job.phase || "");
  const percent = Math.round(100 * share);
  const bar = make("progress", { max: 100, value: percent, "aria-label": "Share done" });
  return make("span", { class: "progress" }, bar, make("span", { class: "ci" }, percent + "%"));
}

function cells(row, job, stop) {
  const name = modelName(job.model);
  const link = row.querySelector("a") || make("a", { href: "#/jobs/" + encodeURIComponent(job.job) }, job.job);
  const button = row.querySelector("button") || make("button", { type: "button", onclick: () => stop(job.job) }, "Stop");
  button.setAttribute("aria-label", "Stop " + job.job);
  button.hidden = !MOVING.includes(job.state);
  const left = MOVING.includes(job.state) ? timeText(job.seconds_left) : timeText(job.elapsed_seconds);
  const label = row.querySelector(".label") || make("span", { class: "label" });
  label.textContent = job.label || "";
  label.hidden = !job.label;
  const parts = row.children.length
    ? [...row.children]
    : [make("th", { scope: "row" }, link, label), ...Array.from({ length: 7 }, (_, at) => make("td", { class: at === 0 ? "wide-name" : null })), make("td", { class: "command" }, button)];
  if (!row.children.length) row.append(...parts);
  const texts = [name, stateBadge(job), job.budget, progressBar(job), left, klText(job.best_kl_divergence), String(Object.values(job.trials).reduce((a, b) => a + b, 0))];
  texts.forEach((value, at) => parts[at + 1].replaceChildren(value));
  parts[1].title = job.model;
  label.title = job.note || "";
}

export async function jobsView(main, signal) {
  const body = make("tbody"), note = make("p", { class: "lead", "aria-live": "polite" }), problem = make("div");
  const filter = make("select", { id: "state", onchange: () => refresh() }, ["all", "QUEUED", "RUNNING", "PAUSED", "DONE", "FAILED", "CANCELLED"].map((s) => make("option", { value: s }, s.toLowerCase())));
  const search = make("input", { id: "model", type: "search", placeholder: "model", oninput: () => refresh() });
  const labelled = make("input", { id: "label", type: "search", placeholder: "label", oninput: () => refresh() });
  let after = [null];
  const older = make("button", { type: "button", hidden: true }, "Older"), newer = make("button", { type: "button", hidden: true, onclick: () => (after.pop(), refresh()) }, "Newer");
  const head = ["Job", "Model", "State", "Budget", "Progress", "Time", "Best KL", "Trials", ""].map((name) => make("th", { scope: "col" }, name || make("span", { class: "unseen" }, "Actions")));
  main.append(
    make("div", { class: "title" }, make("h1", {}, "Jobs"), make("a", { class: "button primary", href: "#/new" }, "New job")),
    make("p", { class: "filters" }, [["State ", filter], ["Model ", search], ["Label ", labelled]].map(([name, input]) => make("span", {}, make("label", { for: input.id }, name), input))),
    problem,
    make("div", { class: "scroll" }, make("table", { class: "list jobs" }, make("thead", {}, make("tr", {}, head)), body)),
    note,
    make("p", { class: "steps" }, newer, older),
  );

  async function stop(job) {
    try {
      await ask("/v1/jobs/" + encodeURIComponent(job) + "/cancel", { method: "POST" });
      problem.replaceChildren();
    } catch (error) {
      problem.replaceChildren(problemBox(error));
    }
    await refresh();
  }
  let turn = 0;
  async function refresh() {
    const mine = ++turn, wanted = new URLSearchParams({ limit: "50" });
    if (filter.value !== "all") wanted.append("state", filter.value);
    if (search.value.trim()) wanted.append("model", search.value.trim());
    if (labelled.value.trim()) wanted.append("label", labelled.value.trim());
    const from = after[after.length - 1];
    if (from) wanted.append("after", from);
    const found = await ask("/v1/jobs?" + wanted, { signal });
    if (mine !== turn) return; // a newer one was asked meanwhile
    keyed(body, found.jobs, (job) => job.job, (row, job) => cells(row, job, stop));
    note.textContent = found.total ? "" : filter.value === "all" && !search.value && !labelled.value ? "No job yet. Begin with a new one." : "No job fits.";
    newer.hidden = after.length === 1;
    older.hidden = !found.next;
    older.onclick = () => (after.push(found.next), refresh());
  }
  await refresh();
  const timer = setInterval(() => {
    if (!document.hidden) refresh().then(() => problem.replaceChildren(), (error) => error.name === "AbortError" || problem.replaceChildren(problemBox(error)));
  }, REFRESH_MS);
  signal.addEventListener("abort", () => clearInterval(timer));
}
