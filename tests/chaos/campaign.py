"""Jobs under a seeded schedule of kills, each compared with an undisturbed one: `python -m tests.chaos.campaign`.

Prints a line per kill and per job, and the figures as JSON at the end; exit code 1 where a job lost a trial, counted
one twice, got stuck or ended with another front.
"""

import argparse
import json
import random
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager, suppress
from dataclasses import dataclass, field
from functools import cache
from pathlib import Path
from typing import Any

from space.digest import digest
from space.errors import OutageError
from space.results.document import FrontDocument
from space.spec import JobSpec
from storage.records import JobState, Trial, TrialState
from tests.chaos.world import Installation, World, stop, two_nodes
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.postgres import find_programs, own_schema, private_postgres
from tests.workers.tiny_models import make_tiny, write_text_file
from tightfit.config import Settings

NUM_CONTROLLERS = 2
STUCK_SECONDS = 600.0  # without any progress
MAX_STEPS = 4  # of a job's progress between two kills: on a slow machine it gets on too
MAX_SECONDS = 1.0  # and time after that
WEIGHTS = {"controller": 3, "actor": 3, "raylet": 1, "postgres": 2, "mlflow": 1}


def front_digest(document: FrontDocument) -> str:
    """Return the digest of a front: all that it tells, but its name and what the search cost."""
    told: dict[str, Any] = {**document.to_json(), "job": "", "cost": None}
    return digest(told)


@dataclass
class Figures:
    """What a campaign saw."""

    kills: Counter[str] = field(default_factory=Counter)
    jobs: Counter[str] = field(default_factory=Counter)
    problems: list[str] = field(default_factory=list)
    other_costs: int = 0


@dataclass(frozen=True)
class Expected:
    """An undisturbed job: its front and its trials."""

    document: FrontDocument
    trials: tuple[Trial, ...]


class Campaign:
    """Runs jobs one after another until enough was killed."""

    def __init__(self, folder: Path, seed: int, num_kills: int, max_trials: int = 60) -> None:
        """Make the model and its text."""
        self.folder, self.num_kills, self.max_trials = folder, num_kills, max_trials
        self.rng, self.figures = random.Random(seed), Figures()
        self._model = make_tiny(folder / "model", "tied")
        self._text = write_text_file(folder / "text.txt")
        self.expected = cache(self._expected)

    def spec(self, seed: int) -> JobSpec:
        """Return a request for two workers."""
        return small_spec(self._model, self._text, seed=seed, max_trials=self.max_trials, workers=2)

    def job(self, world: World, at: Installation, seed: int) -> None:
        """Run one job under kills and compare it."""
        expected = self.expected(seed)
        service = PlainService(Settings(at.home, at.database_url, None))
        job_id, began = service.submit(self.spec(seed)).job_id, time.monotonic()
        state = self._disturb(world, at, service, job_id)
        stop(at)
        found = [] if state.rests else [f"{job_id}: stuck, {state}"]
        found += compare(service, job_id, expected)
        self.figures.problems += found
        database = at.database_url.partition(":")[0]
        self.figures.jobs[database] += 1
        document = service.store.get_job(job_id).document
        if document and document.cost.token_forwards != expected.document.cost.token_forwards:
            self.figures.other_costs += 1
        service.store.close()
        tell(job=job_id, database=database, seconds=round(time.monotonic() - began), problems=found)

    def _expected(self, seed: int) -> Expected:
        service = open_service(self.folder / f"undisturbed-{seed}")
        job_id, document = run_job(service, self.spec(seed))
        trials = tuple(service.store.list_trials(job_id))
        service.store.close()
        return Expected(document, trials)

    def _disturb(self, world: World, at: Installation, service: PlainService, job_id: str) -> JobState:
        """Kill until the job rests or was long enough; return its state."""
        state, steps, last = JobState.QUEUED, self.rng.randint(0, MAX_STEPS), ("", 0)
        deadline = time.monotonic() + STUCK_SECONDS
        while not state.rests and time.monotonic() < deadline:
            world.keep_controllers(at, NUM_CONTROLLERS)
            if steps <= 0 and self.figures.kills.total() < self.num_kills:
                time.sleep(self.rng.uniform(0, MAX_SECONDS))
                self._kill(world, at)
                steps = self.rng.randint(0, MAX_STEPS)
            time.sleep(0.1)
            with suppress(OutageError):
                job = service.store.get_job(job_id)
                now = (job.phase, sum(t.state.is_finished for t in service.store.list_trials(job_id)))
                if now != last:
                    steps, last, deadline = steps - 1, now, time.monotonic() + STUCK_SECONDS
                state = job.state
        return state

    def _kill(self, world: World, at: Installation) -> None:
        kinds = world.kinds(at)
        (kind,) = self.rng.choices(kinds, [WEIGHTS[kind] for kind in kinds])
        if world.kill(kind, at):
            self.figures.kills[kind] += 1
            tell(kill=kind, number=self.figures.kills.total())


def compare(service: PlainService, job_id: str, expected: Expected) -> list[str]:
    """Return what is wrong with a job that was disturbed."""
    job, trials = service.store.get_job(job_id), service.store.list_trials(job_id)
    found = [] if job.state is JobState.DONE else [f"{job_id} is {job.state}: {job.error}"]
    bad = [t for t in trials if t.state is not TrialState.COMPLETE]
    found += [f"{job_id}: trial {t.number} is {t.state}: {t.reason}" for t in bad]
    plans = [(t.number, t.plan.digest) for t in trials]
    if plans != [(t.number, t.plan.digest) for t in expected.trials]:
        found.append(f"{job_id}: {len(trials)} trials, undisturbed {len(expected.trials)}, or other ones")
    if job.document is None or front_digest(job.document) != front_digest(expected.document):
        found.append(f"{job_id}: another front")
    return found


def tell(**values: Any) -> None:
    """Print one line of JSON."""
    print(json.dumps({"at": round(time.monotonic(), 1), **values}), flush=True)


@contextmanager
def campaign_world(folder: Path, *, with_mlflow: bool) -> Iterator[tuple[World, str | None]]:
    """Give a world and the URL of its PostgreSQL, where that is installed."""
    programs = find_programs()
    with ExitStack() as stack:
        postgres = stack.enter_context(private_postgres(programs)) if programs else None
        cluster = stack.enter_context(two_nodes())
        world = World(folder, cluster, postgres, with_mlflow=with_mlflow)
        stack.callback(world.close)
        yield world, postgres.url if postgres else None


def run(num_kills: int, seed: int) -> Figures:
    """Run a whole campaign, jobs on SQLite and on PostgreSQL by turns."""
    with tempfile.TemporaryDirectory(prefix="tightfit-chaos-") as name:
        campaign, number = Campaign(Path(name), seed, num_kills), 0
        with campaign_world(Path(name), with_mlflow=True) as (world, postgres):
            while campaign.figures.kills.total() < num_kills and len(campaign.figures.problems) < 10:
                home = Path(name) / f"home-{number}"
                home.mkdir()
                with ExitStack() as one:
                    url = f"sqlite:///{home}/tightfit.db"
                    if number % 2 and postgres:
                        url = one.enter_context(own_schema(postgres))
                    campaign.job(world, Installation(home, url), seed=number % 3)
                number += 1
        return campaign.figures


def main() -> None:
    """Run the command line."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--kills", type=int, default=100)
    parser.add_argument("--seed", type=int, default=0)
    options = parser.parse_args()
    figures = run(options.kills, options.seed)
    tell(
        kills=dict(figures.kills),
        total=figures.kills.total(),
        jobs=dict(figures.jobs),
        other_costs=figures.other_costs,
        problems=figures.problems,
    )
    sys.exit(1 if figures.problems else 0)


if __name__ == "__main__":
    main()
