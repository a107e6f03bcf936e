"""A search of a benchmark's home: run, or found done, and the plan that it recommends with what measures it."""

import math
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from torch import Tensor

from space.inventory import Inventory
from space.level import DENSE, Level
from space.measurement import Measurement
from space.plan import Plan
from space.results.front import paired_interval
from space.spec import JobSpec
from storage.sound_records import ground_of
from tightfit.config import Settings
from tightfit.searched_model import front_plans
from tightfit.service import Service
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import read_teacher
from workers.families.family_table import FAMILIES
from workers.families.read_inventory import inspect_model
from workers.models.model_files import resolve_model
from workers.tasks import BATCH, Evaluate, Teach, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker


@dataclass(frozen=True, slots=True)
class LeagueRow:
    """One of other people's formats and our plan at its bytes: KL on held-out text, and the paired interval."""

    name: str
    size_bytes: int
    kl_divergence: float
    our_size_bytes: int
    our_kl_divergence: float
    ratio: float
    difference_ci95: tuple[float, float]


PLAIN_BYTES = Level(8)
Side = tuple[int, Sequence[float]]
"""bytes, and the KL of each sequence"""


def league_row(name: str, theirs: Side, ours: Side) -> LeagueRow:
    """Return how two compare."""
    (size, their_kl), (our_size, our_kl) = theirs, ours
    means = [math.fsum(kl) / len(kl) for kl in (their_kl, our_kl)]
    return LeagueRow(name, size, means[0], our_size, means[1], means[1] / means[0], paired_interval(our_kl, their_kl))


def open_home(home: Path) -> Service:
    """Return the service of a folder."""
    return Service(Settings(home, f"sqlite:///{home / 'tightfit.db'}", None))


@dataclass(frozen=True, slots=True)
class Searched:
    """A job that is done: its recommended point and that one's plan."""

    service: Service
    job_id: str
    point: str
    plan: Plan

    def held_out(self, inventory: Inventory, plan: Plan) -> Measurement:
        """Return what a plan of the job's model loses on its held-out text; levels that are missing are built."""
        worker, tokens = self._worker(inventory)
        task = Evaluate(tokens, plan, "held_out")
        worker.provide(task)
        measured: Measurement = worker.run(task)
        return measured

    def held_out_of(self, logits: Callable[[Tensor], Iterator[Tensor]], count: int) -> list[float]:
        """Return the KL of the first sequences of its held-out text, of (1, T, V) logits of each row of tokens."""
        inventory = inspect_model(resolve_model(self.service.store.get_job(self.job_id).spec.model))
        worker, tokens = self._worker(inventory)
        worker.run(Teach(tokens, "held_out"))
        teacher, rows = read_teacher(worker.teacher_path(tokens, "held_out")), tokens.load("held_out")
        assert isinstance(rows, Tensor)  # noqa: S101 (the job is of a model of text)
        some = rows[:count]
        return sequence_quality(logits(some), some.split(1), teacher, FAMILIES[inventory.family].loss)[0]

    def held_out_at(self, weights: Mapping[str, Tensor], level: Level = PLAIN_BYTES) -> list[float]:
        """Return the KL of each sequence of its held-out text with some modules' weights, all others dense.

        Of the level nothing counts but what it rounds inputs to.
        """
        inventory = inspect_model(resolve_model(self.service.store.get_job(self.job_id).spec.model))
        worker, tokens = self._worker(inventory)
        worker.run(Teach(tokens, "held_out"))
        teacher, batches = read_teacher(worker.teacher_path(tokens, "held_out")), tokens.load("held_out").split(BATCH)
        plan = Plan.of({m.name: level if m.name in weights else DENSE for m in inventory.modules})
        logits = worker.engine.logits(plan, lambda name, *_: weights[name], batches)
        return sequence_quality(logits, batches, teacher, FAMILIES[inventory.family].loss)[0]

    @property
    def tokens(self) -> TokenSet:
        """Return the text of the job."""
        return TokenSet.from_json(ground_of(self.service.store.get_job(self.job_id)).tokens.to_json())

    def _worker(self, inventory: Inventory) -> tuple[Worker, TokenSet]:
        job = self.service.store.get_job(self.job_id)
        ground, folder = ground_of(job), resolve_model(job.spec.model)
        return Worker(Workspace(str(folder), ground.cache_folder, ground.model_digest, inventory)), self.tokens


def searched(service: Service, spec: JobSpec) -> Searched:
    """Run a request to its end."""
    job_id = service.submit(spec).job_id
    service.run(job_id)
    document = service.front(job_id)
    best = document.recommended
    if best is None:
        raise SystemExit(f"{job_id}: no point fits")
    plan = front_plans(document, service.store.list_trials(job_id))[best.point]
    return Searched(service, job_id, best.point, plan)
