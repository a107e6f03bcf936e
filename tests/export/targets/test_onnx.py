"""ONNX exports: the bytes of the levels, run by ONNX Runtime and by onnxruntime-genai themselves."""

import json
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest
import torch

from space.errors import ModelError, VerificationError
from space.inventory import ModuleInfo, TensorInfo
from space.level import DENSE, Level, parse_level
from space.menu import Menu
from space.plan import Plan
from space.targets.target_table import is_legal
from tests.export.decoder_models import DecoderBenches, DecoderKind
from tests.export.exports import reload_request, write_export
from tests.workers.tiny_models import Bench
from tightfit.export.source import Written
from tightfit.export.verify import Promise, Verified, verify_export
from workers.onnx_files.onnx_architectures import check_model
from workers.onnx_files.onnx_runtime import runtime_logits

_SLOW = ("mistral", "qwen3", "granite", "ernie", "hunyuan")
LEVELS = ("b4-g32", "b2-g16", "dense", "b8-g32", "b4-g16", "b8-gch", "b2-gch")


def _plan(bench: Bench, texts: tuple[str, ...] = LEVELS) -> Plan:
    turn = cycle(map(parse_level, texts))
    levels = {}
    for module in bench.workspace.inventory.modules:
        level: Level = next(turn)
        levels[module.name] = level if is_legal(module, level, "onnx") else DENSE
    plan = Plan.of(levels)
    bench.build(plan, "onnx")
    return plan


def _verify(bench: Bench, plan: Plan, written: Written) -> Verified:
    request = reload_request(bench)
    promise = Promise(written.size_bytes, None)
    return verify_export(written, bench.workspace.inventory, plan, "onnx", promise, request)


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(
    "kind",
    [
        *("llama3", "qwen2"),
        *(pytest.param(kind, marks=pytest.mark.slow) for kind in _SLOW),
    ],
)
def test_every_architecture_is_what_was_searched(benches: DecoderBenches, tmp_path: Path, kind: DecoderKind) -> None:
    """Bytes as predicted, the weights those of the search, and ONNX Runtime computes the same logits of them."""
    bench = benches(kind)
    plan = _plan(bench)
    written = write_export(bench, plan, "onnx", tmp_path / "out").written
    found = _verify(bench, plan, written)
    assert written.size_bytes == written.predicted_bytes
    assert found.logit_difference < 1e-5
    assert found.runtime is not None
    assert found.runtime[0] == "ONNX Runtime"
    ids = torch.randint(2, 300, (2, 24), generator=torch.Generator().manual_seed(5))
    logits = torch.cat([*runtime_logits(tmp_path / "out", ids)])
    assert (logits - next(bench.worker.logits(plan, bench.tokens, [ids]))).abs().max() < 1e-4


@pytest.mark.usefixtures("reload_here")
def test_a_file_of_another_plan_is_found(benches: DecoderBenches, tmp_path: Path) -> None:
    """Other bytes by their number; other values of as many bytes by what ONNX Runtime makes of them."""
    bench = benches("mistral")
    plan, other = _plan(bench), _plan(bench, ("b8-g32",))
    written = write_export(bench, plan, "onnx", tmp_path / "out").written
    with pytest.raises(VerificationError, match=r"takes .* bytes, b8-g32 has"):
        _verify(bench, other, written)
    data = tmp_path / "out" / "model.onnx.data"
    data.write_bytes(data.read_bytes()[::-1])
    with pytest.raises(VerificationError, match="logits differ"):
        _verify(bench, plan, written)


ROUNDED = ("b4-g32-ab8", "b8-g16-ab8", "b2-g32-ab8", "b4-g16", "b4-gch-ab8", "dense")


@pytest.mark.usefixtures("reload_here")
def test_rounded_inputs_are_measured(benches: DecoderBenches, tmp_path: Path) -> None:
    """A mixture of levels with inputs as they are and rounded has the KL that ONNX Runtime finds with integers."""
    bench = benches("llama3")
    plan = _plan(bench, ROUNDED)
    assert sum(level.inputs == "int8-block" for _, level in plan.levels) > 4
    found = _verify(bench, plan, write_export(bench, plan, "onnx", tmp_path / "out").written)
    assert found.logit_difference < 1e-5
    assert found.runtime is not None
    assert found.runtime[1] == pytest.approx(found.kl_divergence, rel=0.03)


@pytest.mark.parametrize("name", ["layers.0.self_attn.q_proj", "embed_tokens"])
@pytest.mark.parametrize("text", [text for text in ROUNDED if text.endswith("-ab8")])
def test_inputs_are_rounded_as_its_kernels_round_them(
    benches: DecoderBenches, tmp_path: Path, text: str, name: str
) -> None:
    """In a layer, and in the head that is tied to an embedding, but for values that lie between two steps."""
    bench = benches("llama3")
    ours, exact = (
        Plan.of({m.name: v if m.name.endswith(name) else DENSE for m in bench.workspace.inventory.modules})
        for v in (parse_level(text), replace(parse_level(text), inputs=""))
    )
    bench.build(ours, "onnx")
    bench.build(exact, "onnx")
    write_export(bench, ours, "onnx", tmp_path / "out")
    ids = torch.randint(2, 300, (2, 24), generator=torch.Generator().manual_seed(5))
    theirs = torch.cat([*runtime_logits(tmp_path / "out", ids)])
    searched = [next(bench.worker.logits(plan, bench.tokens, [ids])) for plan in (ours, exact)]
    alike, apart = ((theirs - logits).abs().mean() for logits in searched)
    assert alike < 0.03 * apart


def test_levels_that_its_operators_run() -> None:
    """Two, four or eight bits, a power of two of columns to a scale."""
    module = ModuleInfo("m", "linear", TensorInfo("m.weight", (8, 96), "BF16"))
    for level in (Level(4, 32), Level(2, 16), Level(8, 32), DENSE):
        assert is_legal(module, level, "onnx"), level
    for text in ("b4-g32-ab8", "b2-g32-ab8", "b8-g16-ab8"):
        assert is_legal(module, parse_level(text), "onnx"), text
    assert not is_legal(module, parse_level("b2-g16-ab8"), "onnx")
    for level in (
        *(Level(3, 32), Level(4, 48), Level(4, 64), Level(4), Level(4, 8)),
        *(Level(4, 32, sparsity=0.5), Level(4, 32, rank=4), Level(4, coding="trellis")),
    ):
        assert not is_legal(module, level, "onnx"), level
    wide = ModuleInfo("m", "linear", TensorInfo("m.weight", (8, 128), "BF16"))
    assert is_legal(wide, Level(4), "onnx")
    assert any(is_legal(module, level, "onnx") for level in Menu().levels() if not level.is_dense)


@pytest.mark.parametrize(
    ("change", "told"),
    [
        ({"architectures": ["OlmoForCausalLM"]}, "a OlmoForCausalLM cannot be written as ONNX yet"),
        ({"use_sliding_window": True}, "window slides from one layer on only"),
        (None, "no tokenizer.json, which onnxruntime-genai reads"),
    ],
)
def test_what_has_no_graph_is_refused(
    benches: DecoderBenches, tmp_path: Path, change: dict[str, Any] | None, told: str
) -> None:
    """By name, before anything is read of the weights."""
    for name in ("config.json", "tokenizer.json"):
        (tmp_path / name).write_bytes((benches("mistral").folder / name).read_bytes())
    check_model(tmp_path)
    if change is None:
        (tmp_path / "tokenizer.json").unlink()
    else:
        config = json.loads((tmp_path / "config.json").read_text())
        (tmp_path / "config.json").write_text(json.dumps({**config, **change}))
    with pytest.raises(ModelError, match=told):
        check_model(tmp_path)
