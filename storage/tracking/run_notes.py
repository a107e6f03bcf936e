"""What MLflow's pages say in words: Markdown descriptions of a model's searches, of a job and of its points.

MLflow folds a description, so that only its first two lines can be clicked; it shows the start of a point's as plain
text where the mouse is on it, and of an experiment's the first line alone. So a short answer comes first, then links,
then the command. Links stay within MLflow's pages, whatever address it has.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from space.budget import format_bytes
from space.plan import Plan
from space.results.document import FrontDocument, FrontPoint, UniformPoint
from space.results.front import Interval
from storage.records import Job
from storage.tracking.mlflow_view import pareto_route, report_route, run_route

OWN_RUN = "@own-run"
"""Stands for the id of a point's own run, which is not known before it is made."""
EXPERIMENT_START = "Compressed by tightfit. "
PLAN_FILE, REPORT_FILE = "plan.json", "report.html"
MAX_JOBS = 40
"""Jobs in an experiment's description: as many as MLflow keeps views of; it takes 20,000 characters."""
_MAX_REASON_CHARACTERS = 2000
_BAR_CHARACTERS = 24


@dataclass(frozen=True, slots=True)
class Shelf:
    """Where a job is shown, and what its commands need.

    Attributes:
        experiment_id: of its model.
        run_id: of the job's own run, the parent of its points.
        home_option: what a tightfit command needs to find the job's records (` --home DIR`), or nothing.

    """

    experiment_id: str
    run_id: str
    home_option: str = ""


@dataclass(frozen=True, slots=True)
class ShownJob:
    """One job of an experiment, as its description lists it."""

    job_id: str
    budget: str
    answer: str


def front_note(document: FrontDocument, point: FrontPoint, plan: Plan | None, shelf: Shelf) -> str:
    """Return the description of a front point: size, KL, against uniform, command, links, histogram of bits."""
    told = "Recommended: " if point.recommended else ""
    figures = f"{told}{format_bytes(point.size_bytes)}, {_kl(point.kl_divergence, point.kl_divergence_ci95)}"
    report = f"[Report at {point.point}]({report_route(shelf.experiment_id, shelf.run_id, point.point)})"
    note = _joined(
        figures + _links(report, *_plan_link(plan, shelf), *_job_links(document, shelf)),
        f"`{document.export_command(point.point, shelf.home_option)}`",
        _against_uniform(document, point),
        *([] if plan is None else [_histogram(plan)]),
    )
    return document.metric.told(note)


def uniform_note(document: FrontDocument, point: UniformPoint, plan: Plan | None, shelf: Shelf) -> str:
    """Return the description of a uniform plan, with the front point that stands against it."""
    kl = _kl(point.kl_divergence, point.kl_divergence_ci95)
    inside = [p for p in document.front if p.size_bytes <= point.size_bytes]
    best = min(inside, key=lambda p: p.kl_divergence, default=None)
    beside = "" if best is None else f"The best point that is no larger is {best.point}: KL {best.kl_divergence:.4g}."
    told = f"Every module at {point.level}: {format_bytes(point.size_bytes)}, {kl}"
    return document.metric.told(_joined(told + _links(*_plan_link(plan, shelf), *_job_links(document, shelf)), beside))


def dense_note(document: FrontDocument, shelf: Shelf) -> str:
    """Return the description of the dense model."""
    dense = document.dense
    beside = f", {document.metric.beside} {dense.perplexity:.4g}" if document.metric.beside else ""
    told = f"The model as submitted: {format_bytes(dense.size_bytes)}{beside}."
    return told + _links(*_job_links(document, shelf))


def job_note(document: FrontDocument, shelf: Shelf, run_of_best: str | None) -> str:
    """Return the description of a job with a front; `run_of_best` is the run of its recommended point."""
    budget, best = format_bytes(document.budget_bytes), document.recommended
    view = f"[Pareto view]({pareto_route(shelf.experiment_id, document.job)})"
    report = f"[Report]({run_route(shelf.experiment_id, shelf.run_id, REPORT_FILE)})"
    answer, command, links = f"**No point fits the budget of {budget}.**", "", [view, report]
    if best is not None:
        kl = _kl(best.kl_divergence, best.kl_divergence_ci95)
        answer = f"**Recommended: {best.point}, {format_bytes(best.size_bytes)}, {kl}** (budget {budget})."
        command = f"`{document.export_command(best.point, shelf.home_option)}`"
        links += [f"[{best.point}]({run_route(shelf.experiment_id, run_of_best)})"] if run_of_best else []
    note = _joined(
        answer + _links(*links),
        command,
        f"{len(document.front)} front points, {document.cost.trials} trials, measured on "
        f"{document.measured_on.replace('_', '-')} text, target {document.target}, seed {document.seed}. "
        "Plans, front and all trials are under Artifacts.",
    )
    return document.metric.told(note)


def begun_note(job: Job, home_option: str) -> str:
    """Return the description of a job that has no front yet."""
    now = f"`tightfit status {job.job_id}{home_option}`"
    return (
        f"Searching within a budget of {job.spec.budget}. Its front comes here when it ends; {now} tells how far it is."
    )


def end_note(job: Job) -> str:
    """Return the description of a job that ended, as long as no front takes its place."""
    return f"**{job.state}.** {(job.error or '')[:_MAX_REASON_CHARACTERS]}".rstrip()


def experiment_note(model: str, experiment_id: str, jobs: Sequence[ShownJob]) -> str:
    """Return the description of a model's experiment: its jobs, the newest first, with their Pareto views."""
    routes = [pareto_route(experiment_id, job.job_id) for job in jobs[:MAX_JOBS]]
    rows = [
        f"| {job.job_id} | [Pareto view]({route}) | {job.budget} | {job.answer} |"
        for job, route in zip(jobs, routes, strict=False)
    ]
    newest = f"[Newest Pareto view]({routes[0]}), of job {jobs[0].job_id}." if jobs else ""
    table = "\n".join(["| job | front | budget | recommended |", "|:---|:---|:---|:---|", *rows])
    return _joined(f"{EXPERIMENT_START}{newest}", f"Searches of `{model.replace('`', '')}`:", table)


def may_replace(note: str | None) -> bool:
    """Tell whether an experiment's description is ours, and not what somebody wrote there."""
    return not note or note.startswith(EXPERIMENT_START)


def plan_params(plan: Plan) -> dict[str, str]:
    """Return what tells plans from each other at a glance.

    `mean_bits` is over modules, 16 for one left dense. `recovered` is "no": a search measures plans as they are built;
    what a fit after the search changes is recorded with the export.
    """
    levels = [level for _, level in plan.levels]
    kinds = sorted({level.kind for level in levels})
    return {
        "mean_bits": f"{sum(level.rate for level in levels) / max(1, len(levels)):.3f}",
        "kinds": " + ".join(kinds),
        "sparse_modules": str(sum(level.sparsity > 0 for level in levels)),
        "low_rank_modules": str(sum(level.rank > 0 for level in levels)),
        "recovered": "no",
    }


def _kl(value: float, interval: Interval) -> str:
    low, high = interval
    return f"KL {value:.4g} [{low:.4g}, {high:.4g}] nats per token"


def _against_uniform(document: FrontDocument, point: FrontPoint) -> str:
    found, excess = point.versus_uniform, document.uniform_excess(point)
    if found is None or found.ratio is None:
        return ""
    percent = round(100 * (excess or 0))
    size = f" ({abs(percent)} % {'larger' if percent > 0 else 'smaller'})" if percent else ""
    sure = "" if found.measurable else ", not a measurable difference"
    return f"Its KL is {found.ratio:.2f} times that of uniform {found.other}{size}{sure}."


def _plan_link(plan: Plan | None, shelf: Shelf) -> list[str]:
    return [] if plan is None else [f"[Plan]({run_route(shelf.experiment_id, OWN_RUN, PLAN_FILE)})"]


def _job_links(document: FrontDocument, shelf: Shelf) -> list[str]:
    view = f"[Pareto view]({pareto_route(shelf.experiment_id, document.job)})"
    return [view, f"[Job {document.job}]({run_route(shelf.experiment_id, shelf.run_id)})"]


def _histogram(plan: Plan) -> str:
    counts: Mapping[int, int] = Counter(level.bits or 0 for _, level in plan.levels)
    most = max(counts.values(), default=1)
    rows = [
        f"| {bits or 'dense'} | {count} | {'█' * max(1, round(_BAR_CHARACTERS * count / most))} |"
        for bits, count in sorted(counts.items(), key=lambda pair: pair[0] or 16)
    ]
    kinds = Counter(level.kind for _, level in plan.levels)
    told = ", ".join(f"{count} {kind}" for kind, count in kinds.most_common())
    return "\n".join(["| bits | modules | |", "|---:|---:|:---|", *rows, "", f"Modules by kind: {told}."])


def _links(*links: str) -> str:
    """Return links as the second line of a description: further down MLflow's fold would lie over them."""
    return "  \n" + " · ".join(links)


def _joined(*paragraphs: str) -> str:
    return "\n\n".join(paragraph for paragraph in paragraphs if paragraph)
