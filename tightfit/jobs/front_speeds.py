"""How fast the points of a job's front make text on this machine: each is written for a moment, and run."""

import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from space.errors import InfeasibleBudgetError
from space.plan import Plan
from space.results.document import FrontDocument, FrontPoint
from storage.records import Job
from storage.sound_records import ground_of
from tightfit.export.checkpoint import write_checkpoint, write_papers
from tightfit.export.source import Source
from tightfit.export.speed import SpeedWish, check_runs_here, speed
from tightfit.jobs.recovering import levels_there
from tightfit.searched_model import check_plan, searched_inventory


@dataclass(frozen=True, slots=True)
class PointSpeed:
    """One point, and what `tightfit speed --json` prints of its files."""

    point: str
    size_bytes: int
    kl_divergence: float
    speed: Mapping[str, Any]

    @property
    def tokens_per_second(self) -> float:
        """Return the median of going on one token at a time."""
        return float(self.speed["decode"]["tokens_per_second"])


def front_speeds(job: Job, document: FrontDocument, plans: Mapping[str, Plan], wish: SpeedWish) -> Iterator[PointSpeed]:
    """Yield what each point of a front does, smallest first; `wish.folder` is not read.

    Raises:
        UsageError: no runtime here makes text of such files.
        ModelError: the model has gone or changed.
        LevelDamagedError: levels of a point are not here.

    """
    check_runs_here(document.target, document.job)
    for point in sorted(document.front, key=lambda p: p.size_bytes):
        yield _measured(job, document, point, plans[point.point], wish)


def fast_enough(
    job: Job, document: FrontDocument, plans: Mapping[str, Plan], wish: SpeedWish, tokens_per_second: float
) -> Iterator[PointSpeed]:
    """Yield points within the budget, best first, up to the first one that is so fast; as `front_speeds`.

    Raises:
        InfeasibleBudgetError: none is, the last to be told.

    """
    check_runs_here(document.target, document.job)
    seen = []
    for point in sorted(document.front, key=lambda p: (p.kl_divergence, p.size_bytes)):
        if point.size_bytes > document.budget_bytes:
            continue
        seen.append(_measured(job, document, point, plans[point.point], wish))
        yield seen[-1]
        if seen[-1].tokens_per_second >= tokens_per_second:
            return
    fastest = max(seen, key=lambda found: found.tokens_per_second, default=None)
    told = "" if fastest is None else f"; the fastest, {fastest.point}, makes {fastest.tokens_per_second:,.1f}"
    raise InfeasibleBudgetError(
        f"No point of job {document.job} within its budget makes {tokens_per_second:,.1f} tokens per second here{told}."
    )


def _measured(job: Job, document: FrontDocument, point: FrontPoint, plan: Plan, wish: SpeedWish) -> PointSpeed:
    inventory = searched_inventory(job)
    check_plan(job.job_id, plan, inventory)
    values, levels = levels_there(job, point, plan)
    with tempfile.TemporaryDirectory(prefix="speed-", dir=ground_of(job).cache_folder) as place:
        out = Path(place) / point.point
        out.mkdir()
        source = Source(Path(values.model_folder), inventory, levels, plan)
        written = write_checkpoint(out, source, document.target)
        write_papers(written, {"format": document.target, "plan": plan.to_json()}, "")
        found = speed(replace(wish, folder=str(out)))
    return PointSpeed(point.point, written.size_bytes, point.kl_divergence, {**found, "path": point.point})
