"""What a new variant needs: a file on each floor that has a part in it, and a line in each table; nothing else changes.

Each test adds an entry to the tables and takes a job from its request to a verified export.
"""

import json
from collections.abc import Callable, Sequence
from dataclasses import fields, replace
from pathlib import Path
from typing import Any

import pytest
import torch
import transformers
from torch import Tensor

from search.request.model_checks import MODEL_CHECKS
from space.codings.coding import Coding
from space.codings.coding_table import CODINGS
from space.codings.input_formats import INPUT_FORMATS
from space.codings.masks import PATTERNS
from space.errors import CalibrationError, SpecError
from space.inventory import TensorInfo
from space.level import Level, kept_columns, parse_level
from space.menu import Menu
from space.question import QUESTIONS, Question
from space.targets.packed_target import PACKED
from space.targets.target_table import TARGETS
from tests.end_to_end.jobs import PlainService, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.export.targets.packed_writer import PACKED_WRITER
from tightfit.export.targets.writer_table import WRITERS
from workers.compress import versions
from workers.compress.bit_packing import PACK_MASK
from workers.compress.build import BuiltLevel
from workers.compress.builders.builder import WholeBuilder
from workers.compress.builders.builder_table import BUILDERS
from workers.compress.builders.integer_builder import INTEGER_BUILDER
from workers.compress.module_statistics import Statistics
from workers.compress.prune import KEEP
from workers.families.family import Family
from workers.families.family_table import FAMILIES
from workers.families.kinds.causal_decoder import CAUSAL_DECODER
from workers.kernels.bit_streams import UNPACK_MASK, unpack_mask
from workers.kernels.inputs.input_table import BY_GROUP, ROUNDED
from workers.kernels.kernel import Kernel, Tensors
from workers.kernels.kernel_table import KERNELS
from workers.kernels.key_values.rounding import KEY_VALUES
from workers.levels.level_store import LevelStore
from workers.recover.recovery import Fitted, Lesson, Recovery, Values
from workers.recover.recovery_table import RECOVERIES
from workers.recover.refit import REFIT
from workers.runtime.loaders.exported_loaders import LOADERS
from workers.samples.sample_table import SAMPLES
from workers.text.tokens import TokenSet

Tiny = Callable[[TinyKind], Path]


def test_every_coding_is_whole() -> None:
    """Each has a builder and a kernel, and its mark and kinds are its own."""
    weights = {name for name, coding in CODINGS.items() if coding.holds == "weights"}
    assert weights == set(BUILDERS) == set(KERNELS)
    assert set(KEY_VALUES) == set(CODINGS) - weights
    assert {target.cache_coding for target in TARGETS.values()} - {""} == set(KEY_VALUES)
    assert all(name == coding.name for name, coding in CODINGS.items())
    combining = [coding.mark for coding in CODINGS.values() if not coding.stands_alone]
    assert len(set(combining)) == len(combining)
    alone = [coding for coding in CODINGS.values() if coding.stands_alone]
    assert all(set(coding.texts) == set(coding.bits) for coding in alone)
    assert all(isinstance(BUILDERS[name], WholeBuilder) == CODINGS[name].stands_alone for name in weights)
    assert set(versions.BUILDERS) == set(CODINGS)


def test_every_input_format_is_whole() -> None:
    """Each is rounded by a function, and is what some coding has; marks in texts of levels are told apart."""
    used = [name for coding in CODINGS.values() for name in (coding.inputs, *coding.input_formats) if name]
    assert set(INPUT_FORMATS) == set(ROUNDED) | set(BY_GROUP) == set(used)
    marks = [entry.mark for entry in INPUT_FORMATS.values() if entry.mark]
    assert len(set(marks)) == len(marks)
    assert all(INPUT_FORMATS[name].mark for coding in CODINGS.values() for name in coding.input_formats)


def test_every_pattern_is_whole() -> None:
    """Each can be chosen, packed and unpacked."""
    assert set(PATTERNS) == set(KEEP) == set(PACK_MASK) == set(UNPACK_MASK)


def test_every_target_is_whole() -> None:
    """Each has a writer, a loader and a check of models, and holds the kinds that its menu has without a name."""
    assert set(TARGETS) == set(WRITERS) == set(LOADERS) == set(MODEL_CHECKS)
    for name, target in TARGETS.items():
        assert name == target.name
        for kind in target.kinds:
            levels = [level for level in Menu(kinds=(kind,)).levels() if level.is_plain and not level.is_dense]
            held = {level.bits for level in levels if target.why_not(level) is None}
            assert held
            assert all(target.why_not(level) is None for level in levels if level.bits in held)


def test_every_family_is_whole() -> None:
    """Each is listed under its own name, loads with a class that transformers has, and answers every question."""
    assert set(FAMILIES) == set(QUESTIONS)
    for name, family in FAMILIES.items():
        assert name == family.name
        assert family.question.samples in ("tokens", *SAMPLES)
        assert hasattr(transformers, family.loader)
        parts = {part.name: getattr(family, part.name) for part in fields(Family)}
        assert all(callable(part) for key, part in parts.items() if key not in ("name", "loader", "sample"))


def test_every_recovery_is_whole() -> None:
    """Each is listed under its own name, has a sentence, and all that an export asks of it."""
    for name, recovery in RECOVERIES.items():
        assert name == recovery.name
        assert recovery.done
        parts = {part.name: getattr(recovery, part.name) for part in fields(Recovery)}
        assert all(callable(part) for key, part in parts.items() if key not in ("name", "done", "goes_on"))


def _bytes(rows: int, kept: int, _: int) -> tuple[TensorInfo, ...]:
    return (TensorInfo("codes", (rows, kept), "U8"),)


def _values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    assert level.bits is not None
    taken = {name: tensor if rows is None else tensor[rows] for name, tensor in tensors.items() if name != "right"}
    kept: Tensor = taken["codes"].float() - 2 ** (level.bits - 1)
    if "mask" not in taken:
        return kept
    mask = unpack_mask(taken["mask"], level, in_features)
    assert kept.shape[1] == kept_columns(level, in_features)
    return torch.zeros(mask.shape).masked_scatter_(mask, kept)


@pytest.mark.usefixtures("reload_here")
def test_a_coding_is_a_layout_a_builder_and_a_kernel(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that takes a byte a value: searched, pinned, pruned, rotated, stored, exported, loaded, verified."""
    monkeypatch.setitem(CODINGS, "bytes", Coding("bytes", "-x", (4,), has_groups=False, layout=_bytes))
    store = lambda values, _: {"codes": values.to(torch.uint8).contiguous()}  # noqa: E731
    monkeypatch.setitem(versions.BUILDERS, "bytes", 1)
    monkeypatch.setitem(BUILDERS, "bytes", replace(INTEGER_BUILDER, store=store))
    monkeypatch.setitem(KERNELS, "bytes", Kernel(_values))
    parse_level.cache_clear()
    pins = (("0.*up_proj", "b4-gch-x"), ("0.*down_proj", "b4-gch-x-h-s0.5"), ("1.*up_proj", "b4-gch-x-s2:4-r2"))
    spec = small_spec(tiny("tied"), text_file, bits=(4,), kinds=("integer", "bytes"), pins=pins, budget="7bpw")
    job_id, document = run_job(service, spec)
    exported = service.export(job_id, tmp_path / "out", refit=False)
    plan = json.loads((tmp_path / "out" / "compression.json").read_text())["plan"]
    assert exported.point in {point.point for point in document.front}
    assert {"b4-gch-x", "b4-gch-x-h-s0.5", "b4-gch-x-s2:4-r2"} <= set(plan.values())
    parse_level.cache_clear()


_BLOCK = 8


def _blocks(rows: int, kept: int, _: int) -> tuple[TensorInfo, ...]:
    return (TensorInfo("blocks", (rows, kept // _BLOCK * (_BLOCK + 2)), "U8"),)


def _build_blocks(weight: Tensor, statistics: Statistics, levels: Sequence[Level]) -> dict[Level, dict[str, Tensor]]:
    """Round to 8 bits in blocks, each behind its scale."""
    assert len(statistics.hessian) == weight.shape[1]
    blocks = weight.view(len(weight), -1, _BLOCK)
    scale = (blocks.abs().amax(-1, keepdim=True) / 127).half()
    values = (blocks / scale.float().clamp_min(1e-7)).round().to(torch.int8)
    stored = torch.cat([scale.view(torch.uint8), values.view(torch.uint8)], -1).view(len(weight), -1)
    return {level: {"blocks": stored.contiguous()} for level in levels}


def _block_values(tensors: Tensors, level: Level, in_features: int, rows: Tensor | None) -> Tensor:
    stored = tensors["blocks"] if rows is None else tensors["blocks"][rows]
    blocks = stored.view(len(stored), -1, _BLOCK + 2)
    scale, values = blocks[..., :2].contiguous().view(torch.float16), blocks[..., 2:].contiguous().view(torch.int8)
    assert str(level) == "blocks_8"
    return (values * scale.float()).view(len(stored), in_features)


@pytest.mark.usefixtures("reload_here")
def test_a_coding_may_stand_alone(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With a text, blocks and scales of its own, a rate that is no whole number, and widths that it cannot hold."""
    coding = Coding(
        "blocks",
        "",
        (8,),
        has_groups=False,
        layout=_blocks,
        texts={8: "blocks_8"},
        fits=lambda _, columns: columns % (2 * _BLOCK) == 0,
        rate=lambda bits: bits + 16 / _BLOCK,
    )
    monkeypatch.setitem(CODINGS, "blocks", coding)
    monkeypatch.setitem(versions.BUILDERS, "blocks", 1)
    monkeypatch.setitem(BUILDERS, "blocks", WholeBuilder(_build_blocks, lambda rows, *_: float(rows.square().sum())))
    monkeypatch.setitem(KERNELS, "blocks", Kernel(_block_values))
    parse_level.cache_clear()
    assert (str(parse_level("blocks_8")), parse_level("blocks_8").rate) == ("blocks_8", 10.0)
    for text in ("blocks_8-h", "blocks_8-r4", "b8-gblocks_8"):
        with pytest.raises(SpecError):
            parse_level(text)
    with pytest.raises(SpecError, match="blocks and scales of its own"):
        Level(8, 64, coding="blocks")
    with pytest.raises(SpecError, match="--bits 2,3: blocks has none of these"):
        small_spec(tiny("tied"), text_file, bits=(2, 3), kinds=("blocks",))
    pins = (("up_proj", "blocks_8"),)
    spec = small_spec(tiny("tied"), text_file, bits=(4, 8), kinds=("integer", "blocks"), pins=pins, budget="11bpw")
    job_id, document = run_job(service, spec)
    exported = service.export(job_id, tmp_path / "out", point=document.front[-1].point)
    plan = json.loads((tmp_path / "out" / "compression.json").read_text())["plan"]
    assert exported.point == document.front[-1].point
    assert "blocks_8" in set(plan.values())
    parse_level.cache_clear()


@pytest.mark.usefixtures("reload_here")
def test_a_target_is_its_rules_and_a_writer(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that holds eight bits only."""
    eight = replace(
        PACKED, name="eight", why_not=lambda level: None if level.bits in (8, None) else "holds 8 bits only"
    )
    monkeypatch.setitem(TARGETS, "eight", eight)
    monkeypatch.setitem(WRITERS, "eight", PACKED_WRITER)
    monkeypatch.setitem(LOADERS, "eight", LOADERS["packed"])
    monkeypatch.setitem(MODEL_CHECKS, "eight", MODEL_CHECKS["packed"])
    job_id, document = run_job(service, small_spec(tiny("tied"), text_file, target="eight", budget="12bpw"))
    service.export(job_id, tmp_path / "out", refit=False)
    record = json.loads((tmp_path / "out" / "compression.json").read_text())
    assert (document.target, record["format"]) == ("eight", "eight")
    assert {parse_level(text).bits for text in record["plan"].values()} <= {8, None}


@pytest.mark.usefixtures("reload_here")
def test_a_family_is_one_file(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that is asked for the second half of each sequence only, from tokens in reverse."""

    def second_half(logits: Tensor, tokens: Tensor) -> tuple[Tensor, Tensor]:
        half = tokens.shape[1] // 2
        return logits[:, half:-1], tokens.flip(1)[:, half + 1 :]

    asked: list[int] = []

    def reversed_tokens(tokens: Tensor) -> dict[str, Any]:
        asked.append(len(tokens))
        return {"input_ids": tokens.flip(1), "use_cache": False}

    backwards = replace(CAUSAL_DECODER, name="backwards", loss=second_half, inputs=reversed_tokens, sample=None)
    monkeypatch.setitem(FAMILIES, CAUSAL_DECODER.name, replace(CAUSAL_DECODER, matches=lambda *_: False))
    monkeypatch.setitem(FAMILIES, "backwards", backwards)
    monkeypatch.setitem(QUESTIONS, "backwards", Question())
    job_id, _ = run_job(service, small_spec(tiny("tied"), text_file))
    service.export(job_id, tmp_path / "out", refit=True)
    assert asked
    with pytest.raises(CalibrationError, match="Text cannot be sampled from a model of its kind"):
        run_job(service, small_spec(tiny("tied"), None))


@pytest.mark.usefixtures("reload_here")
def test_a_recovery_is_one_file(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Here one that scales every module by what makes it worse: it is tried, and not kept."""

    def louder(lesson: Lesson) -> Fitted:
        workspace, plan, tokens = lesson.workspace, lesson.plan, lesson.tokens
        named = TokenSet(tokens.path, tokens.note, ("louder", *tokens.digests[1:]))
        folder = Path(workspace.cache_folder) / "levels"
        old, new = (LevelStore(folder, workspace.model_digest, t.of("calibration")) for t in (tokens, named))
        for name, level in plan.levels:
            if not level.is_dense:
                found = {key: tensor.clone() for key, tensor in old.tensors(name, level).items()}
                new.write(name, BuiltLevel(level, found | {"scale": found["scale"] * 1.5}, 1.0))
        lesson.progress("louder: block 1 of 1", 1.0)
        return Fitted(Values(named, workspace.model_folder))

    monkeypatch.setitem(RECOVERIES, "louder", replace(REFIT, name="louder", done="made louder", fit=louder))
    job_id, _ = run_job(service, small_spec(tiny("tied"), text_file))
    told: list[str] = []
    exported = service.export(job_id, tmp_path / "out", recovery="louder", tell=told.append)
    record = json.loads((tmp_path / "out" / "compression.json").read_text())
    assert told == ["louder: about 1 min on one core; --no-louder leaves it out", "louder: block 1 of 1"]
    assert exported.refitted is False
    assert record["louder"]["kl_after"] > record["louder"]["kl_before"]
    with pytest.raises(
        SpecError,
        match="'quieter' is no recovery; there are refit, scales, low-rank, restore, quantization-aware, louder",
    ):
        service.export(job_id, tmp_path / "other", recovery="quieter")
