// The page: an address after `#` names what is shown. #/ jobs, #/new a form, #/jobs/ID a job, #/jobs/ID/p7 its point p7.

import { ask } from "./api.js";
import { make, problemBox } from "./dom.js";
import { jobView } from "./job_view.js";
import { jobsView } from "./jobs_view.js";
import { submitView } from "./submit_view.js";

const view = document.getElementById("view");
let leaving = new AbortController();

function route() {
  const [, kind = "", id = "", ...rest] = location.hash.replace(/^#/, "").split("/").map(decodeURIComponent);
  if (kind === "new") return { page: "new", draw: submitView, args: [] };
  if (kind === "jobs" && id) return { page: "job", draw: jobView, args: [id, rest[0] || ""], key: "jobs/" + id };
  return { page: "jobs", draw: jobsView, args: [] };
}

let shown = null;
async function show() {
  const { page, draw, args, key = page } = route();
  if (shown === key && page === "job") return; // another point of the same job: the job's view hears of it itself
  shown = key;
  leaving.abort();
  leaving = new AbortController();
  for (const link of document.querySelectorAll("nav [data-page]")) {
    if (link.dataset.page === page) link.setAttribute("aria-current", "page");
    else link.removeAttribute("aria-current");
  }
  const main = make("main", { tabindex: "-1" });
  view.replaceChildren(main);
  try {
    await draw(main, leaving.signal, ...args);
  } catch (error) {
    if (error.name === "AbortError") return;
    if (error.status === 401) return askForToken(main);
    main.replaceChildren(make("h1", {}, "tightfit"), problemBox(error));
  }
}

function askForToken(main) {
  const problem = make("div");
  const field = make("input", { type: "password", id: "token", autocomplete: "current-password", required: true });
  const form = make(
    "form",
    {
      class: "form",
      onsubmit: async (event) => {
        event.preventDefault();
        try {
          await ask("/v1/session", { method: "POST", body: { token: field.value.trim() } });
          shown = null;
          await show();
        } catch (refused) {
          problem.replaceChildren(problemBox(refused));
        }
      },
    },
    make("label", { for: "token" }, "Token"),
    field,
    make("p", { class: "lead" }, "An administrator makes one with ", make("code", {}, "tightfit token add USER"), ". This browser holds it for twelve hours, where no script reads it."),
    make("button", { class: "primary" }, "Sign in"),
  );
  main.replaceChildren(make("h1", {}, "Sign in"), problem, form);
  field.focus();
}

const MLFLOW_LOOK_MS = 15000;

async function linkToMlflow() {
  try {
    const about = await ask("/v1/about");
    if (!about.mlflow) return void setTimeout(linkToMlflow, MLFLOW_LOOK_MS); // it starts after the page
    const link = document.getElementById("mlflow");
    link.href = about.mlflow.replace(/\/$/, "") + "/#/experiments?workflowType=machine_learning"; // not its pages for chat
    link.hidden = false;
  } catch (unknown) {} // without a link the page is whole
}

addEventListener("hashchange", show);
show();
linkToMlflow();
