// One job: how far it is, its front while it grows, and what can be done with a point of it.

import { ask, askText, listen } from "./api.js";
import { klText, make, modelName, problemBox, sizeText, timeText } from "./dom.js";
import { progressBar, stateBadge } from "./jobs_view.js";
import { overlayPanel } from "./overlay.js";
import { exportPanel, recoveryPanel } from "./task_panels.js";
import { tryPanel } from "./try_panel.js";

const REFRESH_MS = 5000; // what is missed by the stream of events, such as a job that is resumed
const EVENTS_MS = 300; // events come in bursts
const RESTING = ["DONE", "FAILED", "CANCELLED", "PAUSED"];

export async function jobView(main, signal, id) {
  const path = "/v1/jobs/" + encodeURIComponent(id);
  const head = make("section", { class: "job-head", "aria-live": "polite" }), problem = make("div");
  const host = make("div", { class: "report" }), actions = make("p", { class: "actions" });
  main.append(head, actions, problem, host);

  const count = (job) => Object.values(job.trials).reduce((a, b) => a + b, 0);
  const told = (work) => async () => {
    try {
      await work();
      problem.replaceChildren();
    } catch (error) {
      if (error.name !== "AbortError") problem.replaceChildren(problemBox(error));
    }
  };
  const act = (verb) => told(async () => (await ask(path + "/" + verb, { method: "POST", signal }), await refresh()));
  const buttons = {
    pause: make("button", { type: "button", onclick: act("pause") }, "Pause"),
    cancel: make("button", { type: "button", onclick: act("cancel") }, "Stop"),
    resume: make("button", { type: "button", onclick: act("resume") }, "Resume"),
    again: make("button", { type: "button", onclick: () => (budget.hidden = !budget.hidden) }, "Another budget"),
    describe: make("button", { type: "button", onclick: () => (described.hidden = !described.hidden) }, "Label and note"),
  };
  const wanted = make("input", { id: "again-budget", required: true, placeholder: "3.5GiB" });
  const budget = make(
    "form",
    {
      class: "inline",
      hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        told(async () => {
          const next = await ask(path + "/again", { method: "POST", body: { budget: wanted.value.trim() }, signal });
          location.hash = "#/jobs/" + encodeURIComponent(next.job);
        })();
      },
    },
    make("label", { for: "again-budget" }, "Answered from all that this job measured: "),
    wanted,
    make("button", { class: "primary" }, "Submit"),
  );
  const label = make("input", { id: "job-label", maxlength: 100 }), note = make("textarea", { id: "job-note", rows: 3, maxlength: 10000 });
  const described = make(
    "form",
    {
      class: "form",
      hidden: true,
      onsubmit: (event) => {
        event.preventDefault();
        told(async () => {
          await ask(path, { method: "PATCH", body: { label: label.value.trim() || null, note: note.value.trim() || null }, signal });
          described.hidden = true;
          await refresh();
        })();
      },
    },
    make("div", { class: "field" }, make("label", { for: "job-label" }, "Label"), label),
    make("div", { class: "field" }, make("label", { for: "job-note" }, "Note"), note),
    make("button", { class: "primary" }, "Save"),
  );
  actions.append(...Object.values(buttons), budget);
  actions.after(described);

  function showHead(job) {
    const moving = !RESTING.includes(job.state);
    document.title = modelName(job.model) + " · tightfit";
    head.replaceChildren(
      make("p", { class: "eyebrow" }, id, job.user ? " of " + job.user : ""),
      make("h1", { title: job.model }, modelName(job.model), job.label ? make("span", { class: "label" }, job.label) : ""),
      make("p", { class: "status" }, stateBadge(job), " ", progressBar(job), moving && job.seconds_left !== null ? make("span", { class: "ci" }, "about " + timeText(job.seconds_left) + " left") : ""),
      make("p", { class: "lead" }, facts(job)),
      job.note ? make("p", { class: "note" }, job.note) : "",
      job.error ? make("p", { class: "notice", role: "alert" }, job.error) : "",
    );
    buttons.pause.hidden = buttons.cancel.hidden = !moving;
    buttons.resume.hidden = job.state === "DONE" || (moving && !job.is_stopped);
    buttons.again.hidden = job.num_points === 0;
    if (described.hidden) (label.value = job.label || ""), (note.value = job.note || "");
  }
  function facts(job) {
    const parts = ["Budget " + job.budget, RESTING.includes(job.state) ? "" : job.phase, count(job) + " trials in " + timeText(job.elapsed_seconds)];
    if (job.best_kl_divergence !== null) parts.push("best KL under the budget " + klText(job.best_kl_divergence));
    return parts.filter(Boolean).join(" · ");
  }

  let drawn = "", report = null, panels = null, overlay = null, redrawing = new AbortController();
  const pointOf = () => decodeURIComponent(location.hash.split("/")[3] || "");
  function place() {
    redrawing.abort();
    redrawing = new AbortController();
    const { signal: until } = redrawing;
    return {
      named: pointOf,
      set(point) {
        history.replaceState(null, "", "#/jobs/" + encodeURIComponent(id) + "/" + encodeURIComponent(point));
        panels?.forEach((panel) => panel.choose(point));
      },
      listen: (heard) => addEventListener("hashchange", heard, { signal: until }),
    };
  }
  signal.addEventListener("abort", () => redrawing.abort());
  async function drawReport(job) {
    const now = [job.state, job.num_points, job.measured_on, job.recommended?.point, job.recommended?.size_bytes, Math.floor(count(job) / 10)].join();
    if (now === drawn || !job.num_points) return;
    if (!report) host.replaceChildren(make("p", { class: "lead" }, "Drawing the front…"));
    const html = (await askText(path + "/report", { signal })).replace(/<style>.*?<\/style>/s, ""); // this page has its styles
    const page = new DOMParser().parseFromString(html, "text/html");
    drawn = now;
    const fresh = document.adoptNode(page.querySelector("main"));
    for (const own of fresh.querySelectorAll(".eyebrow, h1, #elsewhere:not(:has(a))")) own.remove();
    const root = make("div", {}, ...fresh.childNodes), data = JSON.parse(page.getElementById("data").textContent);
    host.replaceChildren(root);
    report = window.showReport(root, data, place());
    if (!report) return;
    panels ??= [recoveryPanel(id, signal, redraw), tryPanel(id, signal), exportPanel(id, signal)];
    for (const panel of panels) panel.into(root.querySelector("#detail"), report.current().id);
    overlay ??= overlayPanel(job, signal);
    overlay.into(root, data);
  }
  function redraw() {
    drawn = "";
    return refresh();
  }
  let busy = false;
  async function refresh() {
    if (busy) return;
    busy = true;
    try {
      const job = await ask(path, { signal });
      showHead(job);
      follow(!RESTING.includes(job.state));
      await drawReport(job);
    } finally {
      busy = false;
    }
  }
  let soon = null;
  function hear() {
    soon ??= setTimeout(() => ((soon = null), told(refresh)()), EVENTS_MS);
  }
  let stream = null;
  function follow(moving) {
    if (moving === (stream !== null)) return;
    if (moving) listen(path + "/events", (stream = new AbortController()).signal, hear);
    else stream.abort(), (stream = null);
  }
  await refresh();
  const timer = setInterval(() => document.hidden || told(refresh)(), REFRESH_MS);
  signal.addEventListener("abort", () => (clearInterval(timer), clearTimeout(soon), stream?.abort()));
}
