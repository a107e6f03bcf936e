// Exports of a point: begun here, followed to their verified end, downloaded.

import { ask } from "./api.js";
import { klText, make, problemBox, sizeText } from "./dom.js";

const REFRESH_MS = 1500;
const MOVING = ["QUEUED", "RUNNING"];

export function exportPanel(job, signal) {
  const path = "/v1/jobs/" + encodeURIComponent(job) + "/exports";
  const problem = make("div"), list = make("ul", { class: "tasks", "aria-live": "polite" });
  const begin = make("button", { type: "button", class: "primary" }, "Export");
  const refit = make("input", { type: "checkbox", id: "refit", checked: true });
  const panel = make(
    "div",
    { class: "exporting" },
    make("h3", {}, "Export this point"),
    make("p", { class: "lead" }, "Writes the checkpoint on the service's machine, loads it again in a fresh process and compares it with the record."),
    make("p", { class: "inline" }, begin, make("label", { for: "refit" }, refit, " fit it once more where that helps")),
    problem,
    list,
  );
  let point = "", timer = null;

  const told = (work) => async () => {
    try {
      await work();
      problem.replaceChildren();
    } catch (error) {
      if (error.name !== "AbortError") problem.replaceChildren(problemBox(error));
    }
  };
  const address = (task, rest) => "/v1/exports/" + encodeURIComponent(task.task) + rest;
  async function start() {
    begin.disabled = true;
    try {
      await ask(path, { method: "POST", body: { point, refit: refit.checked ? null : false }, signal });
    } finally {
      begin.disabled = false;
    }
    await refresh();
  }
  begin.addEventListener("click", told(start));

  async function showFiles(task, place) {
    const { files } = await ask(address(task, "/files"), { signal });
    const link = (file) => make("a", { href: address(task, "/files/" + encodeURIComponent(file.name)), download: file.name, title: file.sha256 ? "sha256 " + file.sha256 : null }, file.name);
    place.replaceChildren(make("ul", { class: "parts" }, files.map((file) => make("li", {}, link(file), " " + sizeText(file.size_bytes)))));
  }
  function line(task) {
    const moving = MOVING.includes(task.state), state = task.is_stopped ? "stopped" : task.state.toLowerCase();
    const files = make("div");
    const parts = [make("b", {}, task.point), " ", make("span", { class: "state " + state }, state), " "];
    if (moving) parts.push(make("span", { class: "ci" }, task.progress), " ", make("button", { type: "button", "aria-label": "Stop the export of " + task.point, onclick: told(async () => (await ask(address(task, "/cancel"), { method: "POST", signal }), await refresh())) }, "Stop"));
    if (task.result) parts.push(make("span", { class: "ci" }, "verified: " + sizeText(task.result.size_bytes) + ", KL " + klText(task.result.kl_divergence)), " ", make("button", { type: "button", "aria-label": "Files of the export of " + task.point, onclick: told(() => showFiles(task, files)) }, "Files"));
    if (task.error) parts.push(make("span", { class: "ci" }, task.error));
    return make("li", { "data-key": task.task, "data-state": task.state }, parts, files);
  }
  async function refresh() {
    clearTimeout(timer);
    const { exports } = await ask(path, { signal });
    exports.forEach((task, at) => {
      const row = list.children[at], is_same = row?.dataset.key === task.task && row.dataset.state === task.state;
      if (is_same && !MOVING.includes(task.state)) return; // its files may be open
      if (row?.dataset.key === task.task) row.replaceWith(line(task));
      else list.insertBefore(line(task), row || null);
    });
    if (exports.some((task) => MOVING.includes(task.state))) timer = setTimeout(told(refresh), REFRESH_MS);
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  told(refresh)();
  return {
    choose(id) {
      point = id;
      begin.textContent = "Export " + id;
    },
    into(detail, id) {
      this.choose(id);
      detail.querySelector(".terminal").after(panel);
    },
  };
}
