"""Whole jobs on tiny models: submit, search, front, export, verified."""

import json
import os
import re
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from space.errors import (
    CalibrationError,
    InfeasibleBudgetError,
    NotFoundError,
    OutputError,
    TightfitError,
    VerificationError,
)
from space.level import Level
from space.results.document import FrontDocument
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.exporting import Exported
from workers.models.headers import read_header

Tiny = Callable[[TinyKind], Path]
BUDGETS = ("2.2bpw", "2.7bpw", "3.5bpw", "4.5bpw", "6bpw")


@pytest.fixture(scope="module")
def finished(
    tiny: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PlainService, str]]:
    """Give a service with one finished job for the packed format, whose levels have every axis."""
    service = open_service(tmp_path_factory.mktemp("finished"))
    spec = small_spec(
        tiny("tied"),
        text_file,
        budget="3.5bpw",
        sparsities=(0.0, 0.5),
        ranks=(0, 2),
        pins=(("0.*up_proj", "b4-g32-s0.5-r2"), ("1.*up_proj", "b4-g32-s2:4"), ("1.*o_proj", "dense")),
    )
    yield service, run_job(service, spec)[0]
    service.store.close()


def _load_dataset(name: str, split: str, *, streaming: bool) -> list[dict[str, str]]:
    if os.environ.get("HF_HUB_OFFLINE"):
        raise ConnectionError("offline mode is enabled")
    assert (name, split, streaming) == ("org/rows", "train", True)
    return [{"text": f"line {i} of {i * i} lines, and {i % 7} more of them"} for i in range(600)]


def test_dataset_is_read_by_the_controller(
    service: PlainService, tiny: Tiny, monkeypatch: pytest.MonkeyPatch, ray_of_two: None
) -> None:
    """Workers are offline, and need not have its package: they get the text; a user who is offline is believed."""
    monkeypatch.setattr("datasets.load_dataset", _load_dataset)
    monkeypatch.delenv("HF_HUB_OFFLINE", raising=False)
    spec = small_spec(tiny("tied"), Path("org/rows"), max_trials=8, workers=1)
    _, document = run_job(service, spec, inline=False)
    assert document.recommended is not None
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")
    with pytest.raises(CalibrationError, match="org/rows: the dataset cannot be read: offline mode is enabled"):
        run_job(service, spec, inline=False)


def test_packed_job_from_end_to_end(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """The recommended point fits the budget, keeps its pins, and its files hold what the front says."""
    service, job_id = finished
    document = service.front(job_id)
    best = document.recommended
    assert best is not None
    assert document.state == "DONE"
    assert document.measured_on == "held_out"
    assert best.size_bytes <= document.budget_bytes
    exported = service.export(job_id, tmp_path / "out", refit=False)
    assert exported.verified
    assert exported.point == best.point
    assert exported.size_bytes == exported.predicted_bytes == best.size_bytes <= exported.budget_bytes
    assert exported.logit_difference == 0.0
    assert exported.kl_divergence == pytest.approx(best.kl_divergence, rel=1e-6)
    plan = service.plans(document)[best.point]
    assert plan["model.layers.0.mlp.up_proj"] == Level(4, 32, 0.5, rank=2)
    assert plan["model.layers.1.mlp.up_proj"] == Level(4, 32, 0.5, "2:4")
    assert plan["model.layers.1.self_attn.o_proj"].is_dense
    stored = {t.info.name for t in read_header(tmp_path / "out" / "model.safetensors")}
    assert {f"model.layers.0.mlp.up_proj.{part}" for part in ("mask", "left", "right")} <= stored
    assert [p.name for p in tmp_path.iterdir()] == ["out"]


def test_front_is_a_front(finished: tuple[PlainService, str]) -> None:
    """Points rise in bytes and fall in KL, none is beaten by a uniform plan, and the document survives JSON."""
    document = finished[0].front(finished[1])
    sizes, losses = [p.size_bytes for p in document.front], [p.kl_divergence for p in document.front]
    assert sizes == sorted(set(sizes))
    assert losses == sorted(losses, reverse=True)
    for point in document.front:
        assert not [
            u for u in document.uniform if u.size_bytes <= point.size_bytes and u.kl_divergence < point.kl_divergence
        ]
    assert FrontDocument.from_json(document.to_json()).to_json() == document.to_json()


def test_export_refusals(finished: tuple[PlainService, str], tmp_path: Path) -> None:
    """A full folder, an unknown point or format, or one that cannot hold the plan is refused; nothing is left."""
    service, job_id = finished
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").write_text("mine")
    new = tmp_path / "new"
    refusals: list[tuple[type[TightfitError], str, Callable[[], object]]] = [
        (OutputError, "already there and not empty", lambda: service.export(job_id, tmp_path / "full")),
        (NotFoundError, "no point 'p99'; its front has p0", lambda: service.export(job_id, new, point="p99")),
        (InfeasibleBudgetError, "smallest measured one has", lambda: service.export(job_id, new, budget="1bpw")),
        (ValueError, "--format 'tflite' is not known", lambda: service.export(job_id, new, target="tflite")),  # type: ignore[list-item]
        (
            ValueError,
            "which compressed-tensors cannot hold",
            lambda: service.export(job_id, new, target="compressed-tensors"),
        ),  # type: ignore[list-item]
        (NotFoundError, "none", lambda: service.export("none", new)),
    ]
    for kind, told, export in refusals:
        with pytest.raises(kind, match=told):
            export()
    assert [p.name for p in tmp_path.iterdir()] == ["full"]
    assert [(p.name, p.read_text()) for p in (tmp_path / "full").iterdir()] == [("mine", "mine")]


@pytest.mark.usefixtures("reload_here")
def test_failed_check_of_an_export_keeps_the_files(
    finished: tuple[PlainService, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A record that the files do not show is an error with exit code 4; the files are kept, marked as unverified."""
    service, job_id = finished
    document = service.front(job_id)
    wrong = replace(document, front=tuple(replace(p, kl_divergence=2 * p.kl_divergence) for p in document.front))
    monkeypatch.setattr(service, "front", lambda _: wrong)
    with pytest.raises(
        VerificationError, match=r"KL divergence is .*, recorded is .* kept in .*out\.unverified"
    ) as caught:
        service.export(job_id, tmp_path / "out", refit=False)
    assert caught.value.exit_code == 4
    assert [p.name for p in tmp_path.iterdir()] == ["out.unverified"]
    assert (tmp_path / "out.unverified" / "model.safetensors").exists()


def _check_papers(service: PlainService, exported: Exported, record: dict[str, Any], *, refitted: bool) -> None:
    """Look whether card and record tell of the files as they are, and of nobody's machine."""
    document, folder = service.front(record["job"]), Path(exported.path)
    low, high = record["kl_divergence_ci95"]
    assert (record["kl_divergence"], record["measured_on"]) == (exported.kl_divergence, "held_out")
    assert low < exported.kl_divergence < high
    searched = next(p for p in document.front if p.point == exported.point)
    assert ((low, high) == pytest.approx(searched.kl_divergence_ci95, rel=1e-6)) != refitted
    assert (record["perplexity"] == pytest.approx(searched.perplexity, rel=1e-6)) != refitted
    card = (folder / "README.md").read_text(encoding="utf-8")
    assert f"| 0 | {exported.kl_divergence:.6f} (95 % {low:.6f} to {high:.6f}) |" in card
    assert f"| {document.dense.perplexity:.4f} | {record['perplexity']:.4f} |" in card
    assert f"| {document.dense.size_bytes:,} | {exported.size_bytes:,} |" in card
    assert ("fitted once more" in card) == refitted
    job = service.store.get_job(record["job"])
    places = (str(Path.home()), str(Path(job.spec.model).parent), str(Path(str(job.spec.calibration)).parent))
    for path in (p for p in folder.iterdir() if p.suffix in (".md", ".json") and p.name != "tokenizer.json"):
        assert not [place for place in places if place in path.read_text(encoding="utf-8")], path


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("helps", [True, False])
def test_export_with_a_refit(
    finished: tuple[PlainService, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    helps: bool,  # noqa: FBT001
) -> None:
    """By default a plan is fitted again; kept or not, what is exported is verified and the record holds both KL."""
    service, job_id = finished
    best = service.front(job_id).recommended
    assert best is not None
    monkeypatch.setattr("workers.recover.recovery.paired_interval", lambda *_: (-2.0, -1.0 if helps else 1.0))
    said: list[str] = []
    exported = service.export(job_id, tmp_path / "out", tell=said.append)
    assert exported.verified
    assert exported.logit_difference == 0.0
    assert exported.size_bytes == exported.predicted_bytes == best.size_bytes
    assert exported.refit_kl_divergence is not None
    assert exported.refit_kl_divergence != best.kl_divergence
    assert exported.refitted == helps
    wanted = exported.refit_kl_divergence if helps else best.kl_divergence
    assert exported.kl_divergence == pytest.approx(wanted, rel=1e-4)
    record = json.loads((tmp_path / "out" / "compression.json").read_text(encoding="utf-8"))
    assert record["refit"] == {
        "kept": helps,
        "kl_before": pytest.approx(best.kl_divergence, rel=1e-6),
        "kl_after": exported.refit_kl_divergence,
    }
    _check_papers(service, exported, record, refitted=helps)
    assert said[0] == "refit: about 1 min on one core; --no-refit leaves it out"


@pytest.mark.usefixtures("reload_here")
def test_refit_is_left_out_where_memory_is_short(
    finished: tuple[PlainService, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The default says so and exports what was searched; the option does it anyway."""
    service, job_id = finished
    monkeypatch.setattr("tightfit.export.making.free_bytes", lambda _: 1_000_000)
    said: list[str] = []
    exported = service.export(job_id, tmp_path / "out", tell=said.append)
    assert (exported.verified, exported.refitted, exported.refit_kl_divergence) == (True, False, None)
    (told,) = said
    assert re.fullmatch(r"refit: left out, since it takes .*B of memory and .*B are free; --refit tries it", told)
    assert service.export(job_id, tmp_path / "wished", refit=True).refit_kl_divergence is not None


def test_compressed_tensors_job_from_end_to_end(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path
) -> None:
    """The other format: plain levels only, budget kept, logits equal."""
    spec = small_spec(tiny("phi"), text_file, budget="7bpw", target="compressed-tensors", sparsities=(0.5,), ranks=(2,))
    job_id, document = run_job(service, spec)
    assert all(level.is_plain for plan in service.plans(document).values() for _, level in plan.levels)
    exported = service.export(job_id, tmp_path / "out")
    assert exported.verified
    assert exported.refit_kl_divergence is not None
    assert exported.logit_difference == 0.0
    assert exported.size_bytes == exported.predicted_bytes <= exported.budget_bytes


@pytest.mark.usefixtures("reload_here")
def test_point_of_one_format_in_the_other(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """A named plain point can be had in both formats, each with its own bytes, even where one is over the budget."""
    spec = small_spec(tiny("tied"), text_file, budget="6.5bpw", pins=(("embed", "dense"),), max_trials=12)
    job_id, document = run_job(service, spec)
    point = document.front[-1]
    for target in ("packed", "compressed-tensors"):
        exported = service.export(job_id, tmp_path / target, point=point.point, target=target, refit=False)
        assert exported.size_bytes == exported.predicted_bytes <= exported.budget_bytes
        assert exported.kl_divergence == pytest.approx(point.kl_divergence, rel=1e-6)
        assert (exported.size_bytes == point.size_bytes) == (target == "packed")


@pytest.mark.usefixtures("reload_here")
def test_every_budget_is_kept(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """From 2.2 to 6 bits per weight: the files have the predicted bytes, and no more than the budget."""
    for budget in BUDGETS:
        spec = small_spec(tiny("untied"), text_file, budget=budget, max_trials=16, sparsities=(0.0, "2:4"))
        job_id, document = run_job(service, spec)
        exported = service.export(job_id, tmp_path / budget, refit=False)
        assert exported.verified
        assert exported.size_bytes == exported.predicted_bytes <= exported.budget_bytes == document.budget_bytes
        size = sum(t.info.size_bytes for t in read_header(tmp_path / budget / "model.safetensors"))
        assert size == exported.size_bytes
        assert size > 0.5 * exported.budget_bytes


@pytest.mark.usefixtures("reload_here")
def test_key_value_cache_counts(service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path) -> None:
    """With a context the cache is part of the budget and of each size, and the files take the rest at most."""
    spec = small_spec(tiny("tied"), text_file, budget="5bpw", context=32, batch=2, max_trials=16)
    job_id, document = run_job(service, spec)
    cache = 2 * 2 * 2 * 16 * 2 * 32 * 2  # keys and values, blocks, heads, width, bytes, tokens, sequences
    best = document.recommended
    assert best is not None
    exported = service.export(job_id, tmp_path / "out", refit=False)
    assert exported.size_bytes + cache == best.size_bytes <= document.budget_bytes
