"""What a new variant needs: a file on each floor that has a part in it, and a line in each table; nothing else changes.

Each test adds an entry to the tables and takes a job from its request to a verified export.
"""

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import Tensor

from space.codings.coding import Coding
from space.codings.coding_table import CODINGS
from space.codings.masks import PATTERNS
from space.inventory import TensorInfo
from space.level import Level, kept_columns, parse_level
from space.menu import Menu
from space.targets.packed_target import PACKED
from space.targets.target_table import TARGETS
from tests.end_to_end.jobs import PlainService, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from tightfit.export.targets.packed_writer import PACKED_WRITER
from tightfit.export.targets.writer_table import WRITERS
from workers.compress.bit_packing import PACK_MASK
from workers.compress.builder_table import BUILDERS
from workers.compress.integer_builder import INTEGER_BUILDER
from workers.compress.prune import KEEP
from workers.kernels.bit_streams import UNPACK_MASK, unpack_mask
from workers.kernels.kernel import Kernel, Tensors
from workers.kernels.kernel_table import KERNELS

Tiny = Callable[[TinyKind], Path]


def test_every_coding_is_whole() -> None:
    """Each has a builder and a kernel, and its mark and kinds are its own."""
    assert set(CODINGS) == set(BUILDERS) == set(KERNELS)
    assert all(name == coding.name for name, coding in CODINGS.items())
    assert len({coding.mark for coding in CODINGS.values()}) == len(CODINGS)


def test_every_pattern_is_whole() -> None:
    """Each can be chosen, packed and unpacked."""
    assert set(PATTERNS) == set(KEEP) == set(PACK_MASK) == set(UNPACK_MASK)


def test_every_target_is_whole() -> None:
    """Each has a writer, and holds plain integers, or why is said."""
    assert set(TARGETS) == set(WRITERS)
    for name, target in TARGETS.items():
        assert name == target.name
        assert any(target.why_not(level) is None for level in Menu().levels() if not level.is_dense)


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
    job_id, document = run_job(service, small_spec(tiny("tied"), text_file, target="eight", budget="12bpw"))
    service.export(job_id, tmp_path / "out", refit=False)
    record = json.loads((tmp_path / "out" / "compression.json").read_text())
    assert (document.target, record["format"]) == ("eight", "eight")
    assert {parse_level(text).bits for text in record["plan"].values()} <= {8, None}
