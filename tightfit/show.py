"""What people see in a terminal: tables on stdout, progress on stderr."""

import csv
import io
import sys
import time
from collections import Counter
from collections.abc import Sequence
from typing import TYPE_CHECKING, Any

from rich.console import Console
from rich.table import Table

from space.budget import format_bytes
from space.document import FrontDocument
from storage.records import Job

if TYPE_CHECKING:
    from tightfit.estimate import DryRun
    from tightfit.exporting import Exported
    from tightfit.service import Service

_POLL_SECONDS = 1.0


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
        text = f"{job.job_id}  {trials_done} trials"
        if "hypervolume" in metrics:
            text += f", hypervolume {metrics['hypervolume']:.4f}"
        if "best_kl_under_budget" in metrics:
            text += f", best KL under the budget {metrics['best_kl_under_budget']:.5f}"
        self._print(text)

    def _print(self, text: str) -> None:
        print(f"[{time.monotonic() - self._started:6.1f} s] {text}", file=sys.stderr, flush=True)


def show_dry_run(found: "DryRun") -> None:
    """Print what a job would search and cost."""
    console = Console(highlight=False)
    table = Table("module", "shape", "levels", "smallest", "largest", title=f"{found.model}: modules")
    for name, kind, rows, columns, levels, smallest, largest in found.modules:
        shape = f"{rows} x {columns}" + (" embedding" if kind == "embedding" else "")
        table.add_row(name, shape, str(levels), f"{smallest:,}", f"{largest:,}")
    console.print(table)
    sizes = Table("uniform plan", "bytes", "", title="Sizes (everything stored counted)")
    sizes.add_row("dense", f"{found.dense_bytes + found.key_value_bytes:,}", "")
    for uniform in found.uniform:
        size = uniform.cost.size_bytes
        sizes.add_row(uniform.level, f"{size:,}", "fits" if size <= found.budget_bytes else "over the budget")
    console.print(sizes)
    cache = f"{found.key_value_bytes:,} bytes" if found.key_value_bytes else "not counted (weights only; see --context)"
    console.print(f"Budget: {found.budget_bytes:,} bytes. Key/value cache: {cache}.")
    console.print(f"Left alone (norms, biases, ...): {found.others_bytes:,} bytes.")
    low, high = f"{found.smallest_bytes:,}", f"{found.largest_bytes:,}"
    console.print(f"Reachable: {low} to {high} bytes, about 10^{len(str(found.num_plans)) - 1} plans.")
    console.print(f"Estimate: {found.seconds / 60:.1f} minutes, {format_bytes(found.disk_bytes)} of cache at most.")


def show_front(document: FrontDocument) -> None:
    """Print a front beside the uniform plans."""
    console = Console(highlight=False)
    title = f"Job {document.job}: front of {document.model} on {document.measured_on} text"
    table = Table("point", "bytes", "bits/weight", "KL divergence", "95 %", "perplexity", "", title=title)
    for p in document.front:
        low, high = p.kl_divergence_ci95
        mark = "recommended" if p.recommended else ("" if p.size_bytes <= document.budget_bytes else "over the budget")
        bits = f"{p.bits_per_weight:.3f}"
        interval = f"{low:.5f} - {high:.5f}"
        table.add_row(
            p.point, f"{p.size_bytes:,}", bits, f"{p.kl_divergence:.5f}", interval, f"{p.perplexity:.3f}", mark
        )
    console.print(table)
    uniform = Table("uniform", "bytes", "KL divergence", "95 %", "perplexity", title="Uniform plans")
    for u in document.uniform:
        low, high = u.kl_divergence_ci95
        uniform.add_row(
            u.level, f"{u.size_bytes:,}", f"{u.kl_divergence:.5f}", f"{low:.5f} - {high:.5f}", f"{u.perplexity:.3f}"
        )
    console.print(uniform)
    dense = document.dense
    console.print(f"Dense: {dense.size_bytes:,} bytes, perplexity {dense.perplexity:.3f}.")
    console.print(
        f"Search: {document.cost.trials} trials, {document.cost.token_forwards / 1e6:.2f} M token-forwards, "
        f"{document.cost.wall_seconds:.0f} s, hypervolume {document.hypervolume:.4f}."
    )


def show_result(document: FrontDocument) -> None:
    """Print a front and what to do with it."""
    show_front(document)
    best = document.recommended
    if best is None:
        print(f"No point fits the budget of {document.budget_bytes:,} bytes.")
        return
    print(f"Best within {document.budget_bytes:,} bytes: {best.point}, KL {best.kl_divergence:.5f}. Export it with")
    print(f"  tightfit export {document.job} --point {best.point} --out DIR")


def front_csv(document: FrontDocument) -> str:
    """Return the front as CSV with a header."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    names = ("point", "trial", "size_bytes", "bits_per_weight", "kl_divergence", "kl_low", "kl_high", "perplexity")
    writer.writerow([*names, "recommended"])
    for p in document.front:
        row = (p.point, p.trial, p.size_bytes, p.bits_per_weight, p.kl_divergence, *p.kl_divergence_ci95, p.perplexity)
        writer.writerow([*row, p.recommended])
    return out.getvalue()


def show_export(exported: "Exported") -> None:
    """Print what was written and what the reload measured."""
    header = exported.file_bytes - exported.size_bytes
    print(f"Exported {exported.point} as {exported.format} to {exported.path}")
    print(
        f"  size      {exported.size_bytes:,} bytes (predicted {exported.predicted_bytes:,}, budget "
        f"{exported.budget_bytes:,}; the container's header takes {header:,} more)"
    )
    print(f"  quality   KL {exported.kl_divergence:.6f} (recorded {exported.recorded_kl_divergence:.6f})")
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
    table = Table("job", "state", "model", "budget", "trials", "phase")
    for job in jobs:
        trials = sum(job_json(service, job)["trials"].values())
        table.add_row(job.job_id, str(job.state), job.spec.model, job.spec.budget, str(trials), job.error or job.phase)
    Console(highlight=False).print(table)


def watch_job(service: "Service", job_id: str) -> None:
    """Print a job's steps until it ends."""
    last = ""
    while True:
        job = service.store.get_job(job_id)
        trials = service.store.list_trials(job_id)
        done = sum(t.state.is_finished for t in trials)
        line = f"{job_id}  {job.state}  {done}/{len(trials)} trials  {job.error or job.phase}"
        if line != last:
            print(line, file=sys.stderr, flush=True)
            last = line
        if job.state.is_finished:
            return
        time.sleep(_POLL_SECONDS)
