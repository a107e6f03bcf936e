"""A store and a controller for scripted jobs."""

import shutil
import weakref
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from tempfile import mkdtemp
from typing import Any

from search.controller import Controller
from space.results.document import FrontDocument
from storage.in_memory import MemoryStore
from storage.records import Job, TrialState
from tests.search.scripted import ScriptedExecutor, spec


class Notes:
    """A listener that remembers."""

    def __init__(self) -> None:
        self.phases: list[str] = []
        self.progressed: list[dict[str, float]] = []

    def phase(self, job: Job, text: str) -> None:
        self.phases.append(text)

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        self.progressed.append(metrics)


class House:
    """A store and what is needed to run jobs of it."""

    def __init__(self) -> None:
        self.store, self.notes = MemoryStore(), Notes()
        self.cache_folder = Path(mkdtemp(prefix="tightfit-house-"))
        weakref.finalize(self, shutil.rmtree, self.cache_folder, ignore_errors=True)
        self.num_starts = 0

    def submit(self, job_id: str = "one", **values: Any) -> str:
        return self.store.create_job(job_id, spec(**values)).job_id

    def run(self, executor: ScriptedExecutor, job_id: str = "one") -> Job:
        started = self.num_starts

        def start(*_: object) -> ScriptedExecutor:
            self.num_starts += 1
            return executor

        try:
            return Controller(self.store, start, self.cache_folder, self.notes).run(job_id)
        finally:
            assert executor.closed == (self.num_starts > started)

    def resume(self, executor: ScriptedExecutor, job_id: str = "one") -> Job:
        self.store.resume_job(job_id)
        return self.run(executor, job_id)

    def document(self, job_id: str = "one") -> FrontDocument:
        document = self.store.get_job(job_id).document
        assert document is not None
        return document

    def states(self, job_id: str = "one") -> list[TrialState]:
        return [t.state for t in self.store.list_trials(job_id)]


def comparable(document: FrontDocument) -> FrontDocument:
    """Return a document without what may differ: the name and the clock."""
    return replace(document, job="", cost=replace(document.cost, wall_seconds=0.0))


def undisturbed(**values: Any) -> tuple[FrontDocument, int]:
    """Return the front of a job that nobody disturbs, and how many plans it measured on search text."""
    house, executor = House(), ScriptedExecutor()
    house.submit(**values)
    house.run(executor)
    return comparable(house.document()), len(executor.searched)


def cancel_after(house: House, count: int) -> Callable[[int], None]:
    return lambda number: house.store.request_cancel("one") if number == count else None


def forgetful(store: MemoryStore) -> MemoryStore:
    """Make a store forget known measurements, so that a second job has to measure."""
    store._measurements.clear()
    return store
