// Exports of a point: begun here, followed to their verified end, downloaded.

import { ask, fetched } from "./api.js";
import { make, problemBox, sizeText } from "./dom.js";

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
  begin.addEventListener(
    "click",
    told(async () => {
      begin.disabled = true;
      try {
        await ask(path, { method: "POST", body: { point, refit: refit.checked ? null : false }, signal });
      } finally {
        begin.disabled = false;
      }
      await refresh();
    }),
  );

  async function save(task) {
    const answer = await fetched(path + "/" + encodeURIComponent(task.export) + "/archive", { signal });
    const link = make("a", { href: URL.createObjectURL(await answer.blob()), download: job + "-" + task.point + ".tar" });
    link.click();
    setTimeout(() => URL.revokeObjectURL(link.href), 60000);
  }
  function line(task) {
    const moving = MOVING.includes(task.state);
    const parts = [make("b", {}, task.point), " ", make("span", { class: "state " + task.state.toLowerCase() }, task.state.toLowerCase()), " "];
    if (moving) parts.push(make("span", { class: "ci" }, task.phase || ""), make("button", { type: "button", onclick: told(async () => (await ask(path + "/" + encodeURIComponent(task.export) + "/cancel", { method: "POST", signal }), await refresh())) }, "Stop"));
    if (task.state === "DONE") parts.push(make("button", { type: "button", onclick: told(() => save(task)) }, "Download " + sizeText(task.size_bytes)), " ", make("span", { class: "ci" }, "verified; " + (task.folder || "")));
    if (task.error) parts.push(make("span", { class: "ci" }, task.error));
    return make("li", {}, parts);
  }
  async function refresh() {
    clearTimeout(timer);
    const found = await ask(path, { signal });
    list.replaceChildren(...found.exports.map(line));
    if (found.exports.some((task) => MOVING.includes(task.state))) timer = setTimeout(told(refresh), REFRESH_MS);
  }
  signal.addEventListener("abort", () => clearTimeout(timer));
  return {
    choose(id) {
      point = id;
      begin.textContent = "Export " + id;
    },
    into(detail, id) {
      this.choose(id);
      detail.querySelector(".terminal").after(panel);
      told(refresh)();
    },
  };
}
