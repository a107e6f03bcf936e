"""The same job again, on other workers, or without a text: the same front, and nothing is done twice."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from space.results.document import FrontDocument
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind

Tiny = Callable[[TinyKind], Path]


def _comparable(document: FrontDocument) -> FrontDocument:
    """Leave out what depends on who did what: work is spared where a worker did a similar plan before."""
    return replace(document, job="", cost=replace(document.cost, wall_seconds=0.0, token_forwards=0.0))


def test_front_does_not_depend_on_the_workers(tiny: Tiny, text_file: Path, tmp_path: Path, ray_of_two: None) -> None:
    """In this process, on one Ray worker and on two: the same plans with the same measurements."""
    spec = small_spec(tiny("tied"), text_file)
    found = []
    for name, workers, inline in (("inline", 1, True), ("one", 1, False), ("two", 2, False)):
        service = open_service(tmp_path / name)
        _, document = run_job(service, spec.model_copy(update={"workers": workers}), inline=inline)
        found.append((_comparable(document), service.plans(document)))
        service.store.close()
    assert found[0] == found[1]
    assert found[1] == found[2]


def test_second_job_finds_its_levels(
    service: PlainService, tiny: Tiny, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same request again builds nothing, measures nothing and has the same front."""
    import workers.worker

    spec = small_spec(tiny("tied"), text_file, max_trials=12)
    _, first = run_job(service, spec)

    def refuse(*_: object) -> None:
        raise AssertionError("done again")

    monkeypatch.setattr(workers.worker, "build_levels", refuse)
    monkeypatch.setattr(workers.worker, "sequence_quality", refuse)
    _, second = run_job(service, spec)
    assert [replace(p, trial=0) for p in second.front] == [replace(p, trial=0) for p in first.front]
    assert second.cost.token_forwards == 0


def test_model_without_text_samples_its_own(service: PlainService, tiny: Tiny) -> None:
    """No calibration text is needed; the report says where it came from."""
    spec = small_spec(tiny("tied"), None, max_trials=6, sequence_length=16, bits=(3, 8), group_sizes=(None,))
    job_id, document = run_job(service, spec)
    assert document.recommended is not None
    assert "sampled from the model itself, seed 0" in service.report(job_id)
