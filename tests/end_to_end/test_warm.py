"""A second job on a tiny model: a front from what the first one left, and no work that was done before."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

import workers.worker
from space.measurement import Measurement
from space.results.document import FrontDocument
from storage.records import Job, JobState
from tests.end_to_end.jobs import Quiet, open_service, run_job, small_spec
from tests.workers.tiny_models import Bench, TinyKind
from workers.tasks import Evaluate

Tiny = Callable[[TinyKind], Path]


class Watching(Quiet):
    """Keeps the front as it is when workers start."""

    def __init__(self, look: Callable[[str], FrontDocument]) -> None:
        super().__init__()
        self.look, self.before_workers = look, list[FrontDocument]()

    def phase(self, job: Job, text: str) -> None:
        """Look at the front before workers start."""
        super().phase(job, text)
        if text.startswith("starting"):
            self.before_workers.append(self.look(job.job_id))


def test_another_budget_is_answered_from_what_is_known(
    tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """0 levels built, 0 probes measured, and a judged front before any worker; both fronts can be exported."""
    service = open_service(tmp_path / "home")
    sizes = {"num_search_samples": 14, "max_trials": 100, "bits": (2, 3, 4, 8)}
    _, first = run_job(service, small_spec(tiny("tied"), text_file, **sizes))
    evaluated: list[Evaluate] = []
    evaluate = workers.worker.Worker.evaluate

    def watch(worker: Any, task: Evaluate) -> Measurement:
        evaluated.append(task)
        return evaluate(worker, task)

    def refuse(*_: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setitem(workers.worker._HANDLERS, Evaluate, watch)
    monkeypatch.setattr(workers.worker, "build_levels", refuse)
    monkeypatch.setattr(workers.worker, "calibrate_all", refuse)
    monkeypatch.setattr(workers.worker, "write_teacher", refuse)
    job = service.submit(small_spec(tiny("tied"), text_file, budget="3.1bpw", **sizes))
    watching = Watching(service.front)
    assert service.run(job.job_id, watching, inline=True).state is JobState.DONE
    assert [task for task in evaluated if task.sketch or task.num_sequences is not None] == []
    assert len([task for task in evaluated if task.split == "search"]) <= 16
    last = service.front(job.job_id)
    for document in (*watching.before_workers, last):
        assert document.measured_on == "held_out"
        assert document.recommended is not None
        assert document.recommended.size_bytes <= document.budget_bytes < first.budget_bytes
    assert last.cost.token_forwards < 0.5 * first.cost.token_forwards
    assert service.export(job.job_id, tmp_path / "out", refit=False).verified
    service.store.close()


def test_a_race_ends_as_one_measurement(bench: Callable[[TinyKind], Bench]) -> None:
    """The first four sequences and then the rest: KL bit for bit that of all, perplexity but for rounding."""
    made = bench("tied")
    plan = made.plan(["b3-g32", "b4-g32"])
    whole: Measurement = made.worker.run(Evaluate(made.tokens, plan, "search"))
    first: Measurement = made.worker.run(Evaluate(made.tokens, plan, "search", 4))
    rest: Measurement = made.worker.run(Evaluate(made.tokens, plan, "search", None, 4))
    joined = Measurement.joined(first, rest)
    assert (joined.kl_divergence, joined.sequence_kl) == (whole.kl_divergence, whole.sequence_kl)
    assert joined.num_tokens == whole.num_tokens
    assert joined.perplexity == pytest.approx(whole.perplexity, rel=1e-12)
    assert joined.token_forwards == rest.token_forwards <= whole.token_forwards
