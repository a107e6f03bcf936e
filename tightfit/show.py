"""What people see in a terminal: tables on stdout, progress on stderr."""

import csv
import io
import shlex
import sys
import time
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rich import box
from rich.console import Console
from rich.table import Table

from space.budget import format_bytes
from space.document import Comparison, FrontDocument, FrontPoint
from space.explanation import Explanation, Move, Reason, format_times
from space.price import MarginalPrice, format_step, nice_step
from storage.records import Job, JobState

if TYPE_CHECKING:
    from tightfit.estimate import DryRun
    from tightfit.exporting import Exported
    from tightfit.service import Service

_POLL_SECONDS = 1.0
_WIDEST = 1000  # characters


class TerminalListener:
    """Prints one line per step on stderr, with the time since the start."""

    def __init__(self) -> None:
        """Start the clock."""
        self._started = time.monotonic()

    def phase(self, job: Job, text: str) -> None:
        """Print a step."""
        self._print(f"{job.job_id}  {text}")

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Print the state of the search."""
        told = "".join(f", {text}" for text in _told(metrics))
        self._print(f"{job.job_id}  {trials_done} trials{told}")

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)


def _told(metrics: Mapping[str, float]) -> list[str]:
    """Return a search's metrics in words."""
    told = []
    if "hypervolume" in metrics:
        told.append(f"hypervolume {metrics['hypervolume']:.4f}")
    if "best_kl_under_budget" in metrics:
        told.append(f"best KL under the budget {metrics['best_kl_under_budget']:.5f}")
    if "marginal_step_bytes" in metrics:
        told.append(str(MarginalPrice(int(metrics["marginal_step_bytes"]), metrics["marginal_kl_drop"])))
    return told


def _print_table(table: Table) -> None:
    """Print a table as wide as it is: a terminal that is narrower breaks its lines, and nothing is cut off."""
    needed = _console(_WIDEST).measure(table).maximum
    _console(max(needed, _console().width)).print(table)


def _console(width: int | None = None) -> Console:
    """Return a console that prints text as it is: names and errors may hold brackets."""
    return Console(highlight=False, markup=False, width=width)


def _table(*names: str, title: str | None = None) -> Table:
    """Return a table without lines between columns: eight of numbers fit into 80 characters."""
    return Table(*names, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def show_dry_run(found: "DryRun") -> None:
    """Print what a job would search and cost."""
    console = _console()
    table = _table("module", "shape", "levels", "smallest", "largest", title=f"{found.model}: modules")
    for name, kind, rows, columns, levels, smallest, largest in found.modules:
        shape = f"{rows} x {columns}" + (" embedding" if kind == "embedding" else "")
        table.add_row(name, shape, str(levels), f"{smallest:,}", f"{largest:,}")
    _print_table(table)
    sizes = _table("uniform plan", "bytes", "", title="Sizes (everything stored counted)")
    sizes.add_row("dense", f"{found.dense_bytes + found.key_value_bytes:,}", "")
    for uniform in found.uniform:
        size = uniform.cost.size_bytes
        sizes.add_row(uniform.level, f"{size:,}", "fits" if size <= found.budget_bytes else "over the budget")
    _print_table(sizes)
    cache = f"{found.key_value_bytes:,} bytes" if found.key_value_bytes else "not counted (weights only; see --context)"
    console.print(f"Budget: {found.budget_bytes:,} bytes. Key/value cache: {cache}.")
    console.print(f"Left alone (norms, biases, ...): {found.others_bytes:,} bytes.")
    low, high = f"{found.smallest_bytes:,}", f"{found.largest_bytes:,}"
    console.print(f"Reachable: {low} to {high} bytes, about 10^{len(str(found.num_plans)) - 1} plans.")
    console.print(f"Estimate: {found.seconds / 60:.1f} minutes, {format_bytes(found.disk_bytes)} of cache at most.")


def show_front(document: FrontDocument) -> None:
    """Print a front beside the uniform plans."""
    console = _console()
    title = f"Job {document.job}: front of {document.model} on {document.measured_on.replace('_', '-')} text"
    names = ("", "point", "bytes", "bpw", "KL", "95 %", "vs next", "vs uniform")
    table = _table(*names, title=title)
    for p in document.front:
        low, high = p.kl_divergence_ci95
        table.add_row(
            *(_mark(document, p), p.point, f"{p.size_bytes:,}", f"{p.bits_per_weight:.3f}", f"{p.kl_divergence:.5f}"),
            *(f"{low:.5f} - {high:.5f}", _ratio(p.versus_next), _versus_uniform(document, p)),
        )
    _print_table(table)
    console.print("* recommended; ! over the budget; perplexities are in the files of --json and --csv.")
    uniform = _table("uniform", "bytes", "KL divergence", "95 %", "perplexity", title="Uniform plans")
    for u in document.uniform:
        low, high = u.kl_divergence_ci95
        uniform.add_row(
            u.level, f"{u.size_bytes:,}", f"{u.kl_divergence:.5f}", f"{low:.5f} - {high:.5f}", f"{u.perplexity:.3f}"
        )
    _print_table(uniform)
    dense = document.dense
    console.print(f"Dense: {dense.size_bytes:,} bytes, perplexity {dense.perplexity:.3f}.")
    console.print(
        f"Search: {document.cost.trials} trials, {document.cost.token_forwards / 1e6:.2f} M token-forwards, "
        f"{document.cost.wall_seconds:.0f} s, hypervolume {document.hypervolume:.4f}."
    )
    console.print("vs next, vs uniform: KL over that of the next larger point and of the nearest uniform plan;")
    console.print("beside that one stands how much larger it is;")
    console.print("~ marks two that do not differ measurably (paired 95 % interval over the same sequences).")
    if document.marginal_price is not None:
        console.print(f"At the budget {document.marginal_price}.")
    if document.advice is not None:
        console.print(document.advice)
    if document.measured_on != "held_out":
        console.print("Preliminary: measured on the text that the search used, not on held-out text.")


def _ratio(found: Comparison | None) -> str:
    if found is None:
        return ""
    ratio = "-" if found.ratio is None else f"{found.ratio:.2f}x"
    return ratio + ("" if found.measurable else " ~")


def _versus_uniform(document: FrontDocument, point: FrontPoint) -> str:
    """Return a point beside a uniform plan, with that one's size where it differs by half a percent or more."""
    if (found := point.versus_uniform) is None:
        return ""
    percent = f"{document.uniform_excess(point) or 0:+.0%}"
    return f"{_ratio(found)} {found.other}" + ("" if percent[1:] == "0%" else f" {percent}")


def _mark(document: FrontDocument, point: FrontPoint) -> str:
    if point.recommended:
        return "*"
    return "" if point.size_bytes <= document.budget_bytes else "!"


def show_explanation(job_id: str, found: Explanation) -> None:
    """Print why each module of a point has its level, the largest share of the loss first."""
    console = _console()
    title = f"Job {job_id}: why the modules of {found.point} have their levels"
    table = _table("module", "level", "KL share", "bytes", "next down", "next up", "why", title=title)
    for r in found.modules:
        share, size = f"{r.kl_share:.1%}", f"{r.size_bytes:,}"
        table.add_row(r.module, r.level, share, size, _move(r.down), _move(r.up), _why(found, r))
    _print_table(table)
    step = nice_step(sum(r.size_bytes for r in found.modules))
    console.print(
        f"KL {found.kl_divergence:.5f} measured; the search's additive model says {found.predicted_kl_divergence:.5f}, "
        "and its predictions are scaled to what was measured."
    )
    console.print(
        f"Going rate: {format_step(step)} are worth {found.going_rate * step:.2g} KL at this size. A level is right "
        "where going down costs more than the going rate (above 1x) and going up gains less (below 1x)."
    )


def _move(move: Move | None) -> str:
    return "" if move is None else f"{move.level}: {move.bytes_change:+,} B, {move.kl_change:+.1g}"


def _why(found: Explanation, reason: Reason) -> str:
    told = []
    if reason.down is not None:
        told.append(f"down {format_times(reason.down.rate, found.going_rate)}")
    if reason.up is not None:
        told.append(f"up {format_times(reason.up.rate, found.going_rate)}")
    return ", ".join(told) or "only useful level"


def command(text: str, home: Path | None) -> str:
    """Return a tightfit command as it must be typed for a home; None is the environment's."""
    return f"tightfit {text}" + (f" --home {shlex.quote(str(home))}" if home is not None else "")


def show_result(document: FrontDocument, home: Path | None = None) -> None:
    """Print a front and what to do with it."""
    show_front(document)
    best = document.recommended
    if best is None:
        print(f"No point fits the budget of {document.budget_bytes:,} bytes.")
        return
    print(f"Best within {document.budget_bytes:,} bytes: {best.point}, KL {best.kl_divergence:.5f}. Export it with")
    print(f"  {command(f'export {document.job} --point {best.point} --out DIR', home)}")


def front_csv(document: FrontDocument) -> str:
    """Return the front as CSV with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("point", "trial", "size_bytes", "bits_per_weight", "kl_divergence", "kl_low", "kl_high", "perplexity")
    compared = [f"{versus}_{what}" for versus in ("next", "uniform") for what in ("other", "ratio", "measurable")]
    writer.writerow([*names, "recommended", *compared])
    for p in document.front:
        row = (p.point, p.trial, p.size_bytes, p.bits_per_weight, p.kl_divergence, *p.kl_divergence_ci95, p.perplexity)
        writer.writerow([*row, p.recommended, *_cells(p.versus_next), *_cells(p.versus_uniform)])
    return out.getvalue()


def _cells(found: Comparison | None) -> tuple[object, ...]:
    return ("", "", "") if found is None else (found.other, found.ratio, found.measurable)


def show_export(exported: "Exported") -> None:
    """Print what was written and what the reload measured."""
    header = exported.file_bytes - exported.size_bytes
    print(f"Exported {exported.point} as {exported.format} to {exported.path}")
    print(
        f"  size      {exported.size_bytes:,} bytes (predicted {exported.predicted_bytes:,}, budget "
        f"{exported.budget_bytes:,}; the container's header takes {header:,} more)"
    )
    where = "" if exported.measured_on == "held_out" else " on search text: the job has not judged its plans yet"
    print(f"  quality   KL {exported.kl_divergence:.6f} (recorded {exported.recorded_kl_divergence:.6f}{where})")
    if exported.refit_kl_divergence is not None:
        told = "kept" if exported.refitted else "not kept: it is not measurably better"
        print(f"  refit     KL {exported.refit_kl_divergence:.6f}, {told}")
    print(f"  reloaded  in a fresh process; logits differ from the searched model by {exported.logit_difference:.3g}")
    print("  verified")


def job_json(service: "Service", job: Job) -> dict[str, Any]:
    """Return a job's status as a JSON object."""
    return {
        "job": job.job_id,
        "state": str(job.state),
        "model": job.spec.model,
        "budget": job.spec.budget,
        "phase": job.phase,
        "error": job.error,
        "created_at": job.created_at.isoformat(),
        "started_at": job.started_at.isoformat() if job.started_at else None,
        "finished_at": job.finished_at.isoformat() if job.finished_at else None,
        "trials": dict(Counter(str(t.state) for t in service.store.list_trials(job.job_id))),
    }


def show_jobs(service: "Service", jobs: Sequence[Job]) -> None:
    """Print jobs as a table."""
    if not jobs:
        print("No jobs yet; `tightfit submit MODEL --budget B` or `tightfit demo` makes one.")
        return
    table = _table("job", "state", "model", "budget", "trials", "phase")
    for column in table.columns[:-1]:
        column.no_wrap = True
    for job in jobs:
        trials = sum(job_json(service, job)["trials"].values())
        last = job.error or ("" if job.state is JobState.DONE else job.phase)
        table.add_row(job.job_id, str(job.state), job.spec.model, job.spec.budget, str(trials), last)
    _console().print(table)


def watch_job(service: "Service", job_id: str) -> None:
    """Print a job's steps until it ends."""
    last: tuple[str, ...] = ()
    while True:
        job = service.store.get_job(job_id)
        trials = service.store.list_trials(job_id)
        done = sum(t.state.is_finished for t in trials)
        state = f"{job_id}  {job.state}  {done}/{len(trials)} trials  {job.error or job.phase}"
        told = ", ".join(_told(service.metrics(job, trials)))
        lines = (state, f"{job_id}  {told}" if told else "")
        for line, before in zip(lines, last or ("", ""), strict=True):
            if line != before:
                print(line, file=sys.stderr, flush=True)
        last = lines
        if job.state.rests:
            if job.document is not None and job.document.marginal_price is not None:
                where = job.document.measured_on.replace("_", "-")
                print(f"{job_id}  on {where} text: {job.document.marginal_price}", file=sys.stderr, flush=True)
            return
        time.sleep(_POLL_SECONDS)
