"""Exports for vLLM: read by transformers with compressed-tensors, and held against vLLM's rules on the files."""

import json
from collections.abc import Callable
from itertools import cycle
from pathlib import Path
from typing import Any

import pytest

from space.codings.float4_coding import FLOAT4_GROUPS
from space.errors import SpecError, VerificationError
from space.level import DENSE, parse_level
from space.menu import Menu, build_space
from space.plan import Plan
from space.targets.target_table import is_legal
from tests.export.exports import Export, reload_request, write_export
from tests.workers.tiny_models import Bench, TinyKind
from tightfit.export.checkpoint import check_format
from tightfit.export.targets.vllm_rules import tensor_parallel_sizes, vllm_problems
from tightfit.export.verify import Promise, Verified, verify_export

Benches = Callable[[TinyKind], Bench]
MIXED = ("b4-g32", "b8-gch-a8", "b3-g32", "b2-gch", "b8-gch-a8", "dense", "b5-g32", "b6-gch", "b7-g32")


def _plan(bench: Bench, texts: tuple[str, ...]) -> Plan:
    """Return a plan whose items take levels in turn where all their modules can."""
    inventory, turn = bench.workspace.inventory, cycle(map(parse_level, texts))
    space = build_space(inventory, Menu(kinds=("integer", "integer-a8", "float8-af8", *FLOAT4_GROUPS)), "vllm", ())
    levels = {item: next(turn) if len(space.levels[item]) > 1 else DENSE for item in space.items}
    fit = {
        i: v if all(is_legal(inventory.module(n), v, "vllm") for n in space.items[i]) else DENSE
        for i, v in levels.items()
    }
    plan = space.plan_of(fit.items())
    bench.build(plan, "vllm")
    return plan


def _verified(export: Export, recorded: float | None = None) -> Verified:
    bench = export.bench
    request = reload_request(bench)
    promise = Promise(export.written.size_bytes, recorded)
    return verify_export(export.written, bench.workspace.inventory, export.plan, "vllm", promise, request)


@pytest.fixture(scope="module")
def mixed(bench: Benches, tmp_path_factory: pytest.TempPathFactory) -> Export:
    """Give an export with packed weights, bytes with rounded inputs, and layers left dense."""
    plan = _plan(bench("tied"), MIXED)
    return write_export(bench("tied"), plan, "vllm", tmp_path_factory.mktemp("vllm") / "mixed")


@pytest.mark.usefixtures("reload_here")
def test_a_fresh_process_finds_the_searched_model(mixed: Export) -> None:
    """To the bit in the weights; compressed-tensors' own rounding of inputs, at vLLM's steps, has the same KL."""
    found = _verified(mixed)
    assert {level.inputs for _, level in mixed.plan.levels} == {"", "int8"}
    assert found.logit_difference <= 1e-4
    assert found.runtime is not None
    name, kl = found.runtime
    assert name == "compressed-tensors"
    assert kl == pytest.approx(found.kl_divergence, rel=0.03)
    settings = json.loads((mixed.folder / "config.json").read_text())["quantization_config"]
    assert settings["format"] == "mixed-precision"


@pytest.mark.usefixtures("reload_here")
def test_rounded_inputs_are_measured(bench: Benches, tmp_path: Path) -> None:
    """Inputs in 8 bits cost something that weights alone do not, and what is recorded is what is found again."""
    at = bench("tied")
    alone, rounded = (_plan(at, (text,)) for text in ("b8-gch", "b8-gch-a8"))
    first, second = (_verified(write_export(at, p, "vllm", tmp_path / n)) for p, n in ((alone, "a"), (rounded, "b")))
    assert first.runtime is None
    assert second.kl_divergence > 1.2 * first.kl_divergence
    assert second.runtime is not None
    assert second.runtime[1] == pytest.approx(second.kl_divergence, rel=0.03, abs=5e-5)  # by chance
    settings = json.loads((tmp_path / "b" / "config.json").read_text())["quantization_config"]
    assert settings["format"] == "int-quantized"


@pytest.mark.usefixtures("reload_here")
def test_floats_of_eight_bits_are_measured(bench: Benches, tmp_path: Path) -> None:
    """Weights and inputs are those of compressed-tensors' own rounding: its KL is the recorded one."""
    at = bench("tied")
    found = _verified(write_export(at, _plan(at, ("b8-gch-f-af8", "b8-gch-a8", "b4-g32")), "vllm", tmp_path / "mixed"))
    alone = _verified(write_export(at, _plan(at, ("b8-gch-f-af8",)), "vllm", tmp_path / "alone"))
    for one in (found, alone):
        assert one.logit_difference <= 1e-4
        assert one.runtime is not None
        assert one.runtime[1] == pytest.approx(one.kl_divergence, rel=1e-3)
    settings = json.loads((tmp_path / "alone" / "config.json").read_text())["quantization_config"]
    assert settings["format"] == "float-quantized"


@pytest.mark.usefixtures("reload_here")
def test_floats_of_four_bits_are_measured(bench: Benches, tmp_path: Path) -> None:
    """In files as in searches, though they are unpacked to bfloat16; inputs as compressed-tensors has them."""
    at = bench("tied")
    texts = ("nvfp4", "nvfp4-a4", "mxfp4")
    found = {text: _verified(write_export(at, _plan(at, (text,)), "vllm", tmp_path / text)) for text in texts}
    assert all(one.logit_difference <= 1e-4 for one in found.values())
    assert found["nvfp4"].kl_divergence < found["mxfp4"].kl_divergence
    assert found["nvfp4-a4"].kl_divergence > 1.2 * found["nvfp4"].kl_divergence
    assert found["nvfp4"].runtime is found["mxfp4"].runtime is None
    assert found["nvfp4-a4"].runtime is not None
    assert found["nvfp4-a4"].runtime[1] == pytest.approx(found["nvfp4-a4"].kl_divergence, rel=0.01)
    mixed = _plan(at, ("nvfp4-a4", "b8-gch-f-af8", "mxfp4", "b4-g32", "nvfp4"))
    one = _verified(write_export(at, mixed, "vllm", tmp_path / "mixed"))
    assert one.logit_difference <= 1e-4
    assert one.runtime is not None
    assert one.runtime[1] == pytest.approx(one.kl_divergence, rel=0.01)


def _planted(what: str, settings: dict[str, Any]) -> None:
    """Change a config in one way that vLLM would refuse, or would take for another model."""
    groups = settings["config_groups"]
    packed = next(g for g in groups.values() if any("q_proj" in t for t in g["targets"]))
    q_proj = next(t for t in packed["targets"] if "q_proj" in t)
    match what:
        case "two groups":
            next(g for g in groups.values() if g is not packed)["targets"].append(q_proj)
        case "no group":
            packed["targets"].remove(q_proj)
        case "another scheme":
            packed["targets"].remove(q_proj)
            other = {**packed, "targets": [q_proj], "weights": {**packed["weights"], "num_bits": 6}}
            groups["another"] = other
        case "floats":
            rounding = next(g for g in groups.values() if g["input_activations"])
            rounding["input_activations"] = None
        case _:
            settings["ignore"].clear()


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(
    ("what", "told"),
    [
        ("two groups", "is matched 2 times"),
        ("no group", "is matched 0 times"),
        ("another scheme", "has another scheme than"),
        ("floats", "and config.json says"),
        ("nothing ignored", "is matched 0 times"),
    ],
)
def test_what_vllm_would_refuse_is_found(mixed: Export, what: str, told: str) -> None:
    """Planted in config.json; what is right is right."""
    inventory, path = mixed.bench.workspace.inventory, mixed.folder / "config.json"
    text = path.read_text()
    assert vllm_problems(mixed.folder, inventory, mixed.plan) == []
    config = json.loads(text)
    _planted(what, config["quantization_config"])
    path.write_text(json.dumps(config))
    try:
        assert any(told in problem for problem in vllm_problems(mixed.folder, inventory, mixed.plan))
        with pytest.raises(VerificationError, match=told):
            _verified(mixed)
    finally:
        path.write_text(text)


def test_groups_and_legal_levels(bench: Benches) -> None:
    """q, k and v are one item, gate and up another; heads, embeddings and odd group sizes are left out."""
    inventory = bench("untied").workspace.inventory
    space = build_space(inventory, Menu(), "vllm", ())
    assert [names for names in space.items.values() if "layers.0" in names[0]] == [
        tuple(f"model.layers.0.self_attn.{kind}_proj" for kind in "qkv"),
        ("model.layers.0.self_attn.o_proj",),
        ("model.layers.0.mlp.gate_proj", "model.layers.0.mlp.up_proj"),
        ("model.layers.0.mlp.down_proj",),
    ]
    assert {space.levels[name] for name in ("model.embed_tokens", "lm_head", "model.layers.0.mlp.down_proj")} == {
        (DENSE,)
    }
    plan = _plan(bench("tied"), ("b4-g32",))
    broken = plan.replace({"model.layers.0.self_attn.k_proj": parse_level("b8-gch")})
    with pytest.raises(SpecError, match="but vllm has them at one level"):
        check_format(bench("tied").workspace.inventory, broken, "vllm")


def test_tensor_parallel_sizes(bench: Benches) -> None:
    """Rows of q, k, v, gate and up are divided, columns of o and down: in whole groups, in whole words."""
    at = bench("tied")  # 64 columns and 96 inside; o_proj and down_proj have groups of 32, or one
    assert tensor_parallel_sizes(at.workspace.inventory, at.dense_plan()) == [1, 2, 4, 8]
    assert tensor_parallel_sizes(at.workspace.inventory, _plan(at, ("b4-g32",))) == [1]
    assert tensor_parallel_sizes(at.workspace.inventory, _plan(at, ("b4-gch",))) == [1, 2, 4]
