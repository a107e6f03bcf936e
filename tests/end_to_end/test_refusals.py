"""Requests that cannot be kept are refused before anything is written, and jobs that fail say why."""

import shutil
from collections.abc import Callable, Sequence
from pathlib import Path
from unittest.mock import Mock

import pytest
import torch
from safetensors.torch import load_file, save_file

from search.request.prepare import read_inventory
from space.errors import (
    CalibrationError,
    InfeasibleBudgetError,
    JobFailedError,
    JobTakenError,
    LeaseLostError,
    ModelError,
    NotFoundError,
    SpecError,
)
from space.results.document import FrontDocument
from space.spec import JobSpec
from storage.records import Job, JobState, Trial
from storage.tracking.contract import NullTracker
from tests.end_to_end.jobs import PlainService, Quiet, run_job, small_spec
from tests.workers.tiny_models import TinyKind

Tiny = Callable[[TinyKind], Path]


def _home_is_as_new(service: PlainService) -> None:
    assert service.store.list_jobs() == []
    assert {p.name.partition("-")[0] for p in service.settings.home.iterdir()} <= {"tightfit.db"}


def test_refused_requests_leave_nothing(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """Text, budget, pin and model are checked before a job is made."""
    empty, short = tmp_path / "empty.txt", tmp_path / "short.txt"
    empty.touch()
    short.write_text(text_file.read_text()[:200])
    refused: list[tuple[type[Exception], str, JobSpec]] = [
        (CalibrationError, "holds no text", small_spec(tiny("tied"), empty)),
        (CalibrationError, "too short", small_spec(tiny("tied"), short)),
        (
            SpecError,
            "--sequence-length 257: .* 256 positions",
            small_spec(tiny("tied"), text_file, sequence_length=257),
        ),
        (
            SpecError,
            "can take a level of this menu",
            small_spec(tiny("tied"), text_file, group_sizes=(128,), kinds=("integer",)),
        ),
        (CalibrationError, "no such file", small_spec(tiny("tied"), tmp_path / "none.txt")),
        (InfeasibleBudgetError, "below the smallest plan", small_spec(tiny("tied"), text_file, budget="1bpw")),
        (
            InfeasibleBudgetError,
            "fits already",
            small_spec(tiny("tied"), text_file, budget="100%"),
        ),
        (InfeasibleBudgetError, "key/value cache", small_spec(tiny("tied"), text_file, budget="4bpw", context=10**6)),
        (ValueError, "matches no module", small_spec(tiny("tied"), text_file, pins=(("no_such", "b4"),))),
        (ModelError, "no such folder", small_spec(tmp_path / "no-model", text_file)),
    ]
    for kind, told, spec in refused:
        with pytest.raises(kind, match=told):
            service.submit(spec)
    _home_is_as_new(service)


def test_remembered_inventory_is_no_proof_of_ties(tiny: Tiny, tmp_path: Path) -> None:
    """A model whose headers are known, and whose tied weights have come to differ since, is refused."""
    folder, cache = Path(shutil.copytree(tiny("tied"), tmp_path / "model")), tmp_path / "cache"
    tensors = load_file(folder / "model.safetensors")
    tensors["lm_head.weight"] = tensors["model.embed_tokens.weight"].clone()
    save_file(tensors, folder / "model.safetensors")
    known = read_inventory(folder, cache, remember=True)
    assert read_inventory(folder, cache) == known
    tensors["lm_head.weight"].view(-1)[-1].add_(1)
    save_file(tensors, folder / "model.safetensors")
    with pytest.raises(ModelError, match=r"ties lm_head to model\.embed_tokens, .* differ"):
        read_inventory(folder, cache)


def test_unknown_job_is_named(service: PlainService) -> None:
    """Every verb says that there is no such job."""
    verbs: list[Callable[[], object]] = [
        lambda: service.run("none", Quiet(), inline=True),
        lambda: service.front("none"),
        lambda: service.report("none"),
        lambda: service.export("none", Path("out")),
        lambda: service.cancel("none"),
        lambda: service.requeue("none"),
    ]
    for verb in verbs:
        with pytest.raises(NotFoundError, match="no job 'none'"):
            verb()
    _home_is_as_new(service)


def test_job_that_fails_says_why(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Text that shrank since it was accepted fails the job, not the service; there is no front, and no second run."""
    shown = Mock(return_value="link")
    monkeypatch.setattr("storage.tracking.mlflow_runs.sync", shown)
    short = Path(shutil.copy(text_file, tmp_path / "short.txt"))
    job = service.submit(small_spec(tiny("tied"), short))
    short.write_text(text_file.read_text()[:200])
    with pytest.raises(JobFailedError, match="has no front yet"):
        service.front(job.job_id)
    with pytest.raises(JobFailedError, match="has no front yet"):
        service.sync_mlflow(job.job_id)
    with pytest.raises(CalibrationError, match=r"short\.txt: too short"):
        service.run(job.job_id, Quiet(), inline=True)
    failed = service.store.get_job(job.job_id)
    assert failed.state is JobState.FAILED
    assert "too short" in (failed.error or "")
    with pytest.raises(JobFailedError, match="too short"):
        service.front(job.job_id)
    assert service.sync_mlflow(job.job_id) == "link"
    assert shown.call_args.args[1:4] == (failed, [], None)
    with pytest.raises(JobTakenError, match="only QUEUED jobs run"):
        service.run(job.job_id, Quiet(), inline=True)


@pytest.mark.parametrize("name", ["norm", "layers.1.mlp.down_proj", "layers.1.post_attention_layernorm"])
def test_dense_model_that_gives_no_numbers(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, name: str
) -> None:
    """Finite weights whose products are not end the job in one sentence, wherever they are."""
    folder = Path(shutil.copytree(tiny("tied"), tmp_path / "model"))
    tensors = load_file(folder / "model.safetensors")
    tensors[f"model.{name}.weight"] = torch.full_like(tensors[f"model.{name}.weight"], 3e38)
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})
    job = service.submit(small_spec(folder, text_file))
    with pytest.raises(ModelError, match=r"[Tt]he dense model\S* (gives|answers are) NaN or infinite"):
        service.run(job.job_id, Quiet(), inline=True)


class Heard(NullTracker):
    """Keeps the ends and fronts that it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, JobState]] = []

    def end(self, job: Job) -> None:
        """Keep an end."""
        self.told.append(("end", job.state))

    def publish(self, job: Job, trials: Sequence[Trial], document: FrontDocument, report_html: str) -> None:
        """Keep a front."""
        self.told.append(("front", job.state))


class Ending(Quiet):
    """Ends a job after its first batch."""

    def __init__(self, error: BaseException) -> None:
        super().__init__()
        self._error = error

    def progress(self, job: Job, trials_done: int, metrics: dict[str, float]) -> None:
        """Raise."""
        raise self._error


@pytest.mark.parametrize(
    ("error", "expected"),
    [
        (RuntimeError("a bug"), [("end", JobState.FAILED)]),
        (KeyboardInterrupt(), [("end", JobState.CANCELLED), ("front", JobState.CANCELLED)]),
        (SystemExit(143), []),
        (LeaseLostError("another has it"), []),
    ],
)
def test_tracker_hears_how_a_job_ended(
    service: PlainService,
    tiny: Tiny,
    text_file: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: BaseException,
    expected: list[tuple[str, JobState]],
) -> None:
    """Failed or interrupted, with a front or without; not where another controller goes on with it."""
    heard = Heard()
    monkeypatch.setattr(service, "_tracker", lambda: heard)
    job = service.submit(small_spec(tiny("tied"), text_file, max_trials=14))
    with pytest.raises(type(error)):
        service.run(job.job_id, Ending(error), inline=True)
    assert heard.told == expected


def test_module_that_text_never_calls(
    service: PlainService, tiny: Tiny, text_file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is known of its input: it is carried over as it is, which a dry run says, and the rest is searched."""
    from transformers.models.llama.modeling_llama import LlamaMLP

    monkeypatch.setattr(LlamaMLP, "forward", lambda _self, hidden: hidden)
    spec = small_spec(tiny("tied"), text_file, budget="12bpw", max_trials=8)
    told = {carried.name for carried in service.dry_run(spec).carried}
    assert told == {"model.layers"}
    _, document = run_job(service, spec)
    assert document.recommended is not None
    assert not [name for name, _ in service.plans(document)[document.recommended.point].levels if "mlp" in name]
