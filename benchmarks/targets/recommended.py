"""A search of a benchmark's home: run, or found done, and the plan that it recommends with what measures it."""

from dataclasses import dataclass
from pathlib import Path

from space.inventory import Inventory
from space.measurement import Measurement
from space.plan import Plan
from space.spec import JobSpec
from storage.sound_records import ground_of
from tightfit.config import Settings
from tightfit.searched_model import front_plans
from tightfit.service import Service
from workers.models.model_files import resolve_model
from workers.tasks import Evaluate, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker


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
        job = self.service.store.get_job(self.job_id)
        ground, folder = ground_of(job), resolve_model(job.spec.model)
        worker = Worker(Workspace(str(folder), ground.cache_folder, ground.model_digest, inventory))
        task = Evaluate(TokenSet.from_json(ground.tokens.to_json()), plan, "held_out")
        worker.provide(task)
        measured: Measurement = worker.run(task)
        return measured


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
