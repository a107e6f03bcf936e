"""GGUF exports: the bytes of the levels, loaded by transformers and, where it is installed, by llama.cpp itself."""

import json
from dataclasses import replace
from itertools import cycle
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from safetensors.torch import load_file

from space.codings.ggml_types import GGML_TYPES
from space.errors import ModelError, SpecError, VerificationError
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.targets.target_table import TARGETS, is_legal
from tests.export.decoder_models import DecoderBenches, DecoderKind
from tests.export.exports import reload_request, write_export
from tests.workers.tiny_models import Bench
from tightfit.export.early import known_target
from tightfit.export.verify import Promise, Verified, verify_export
from workers.gguf import llama_cpp
from workers.gguf.gguf_architectures import in_file_order
from workers.gguf.gguf_file import read_gguf
from workers.gguf.gguf_model import check_model, gguf_model
from workers.kernels.ggml.ggml_library import dequantize

WIDE = ("q4_K", "q6_K", "iq4_xs", "q3_K", "q5_K", "iq3_s", "dense", "q2_K", "q8_0", "iq2_xxs", "q5_1")
NARROW = ("q4_0", "q8_0", "iq4_nl", "q5_1", "dense", "q4_1", "q5_0")


def _from_file_order(rows: NDArray[Any], num_heads: int | None) -> NDArray[Any]:
    """Return (O, ...) rows of a file in the order of the model."""
    if num_heads is None:
        return rows
    pairs = rows.reshape(num_heads, len(rows) // num_heads // 2, 2, *rows.shape[1:])
    return np.ascontiguousarray(pairs.swapaxes(1, 2)).reshape(rows.shape)


def _plan(bench: Bench, texts: tuple[str, ...]) -> Plan:
    turn = cycle(map(parse_level, texts))
    levels = {}
    for module in bench.workspace.inventory.modules:
        level: Level = next(turn)
        levels[module.name] = level if is_legal(module, level, "gguf") else DENSE
    plan = Plan.of(levels)
    bench.build(plan, "gguf")
    return plan


def _verified(bench: Bench, plan: Plan, folder: Path, **changes: Any) -> Verified:
    export = write_export(bench, plan, "gguf", folder)
    request = reload_request(bench)
    written = replace(export.written, **changes)
    promise = Promise(written.size_bytes, None)
    return verify_export(written, bench.workspace.inventory, plan, "gguf", promise, request)


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(
    ("kind", "texts"),
    [
        *(("llama3", WIDE), ("qwen2", NARROW), ("qwen3-moe", NARROW), ("gemma3", NARROW), ("phi3", NARROW)),
        *(pytest.param(kind, NARROW, marks=pytest.mark.slow) for kind in ("mistral", "qwen3", "gemma2")),
    ],
)
def test_every_architecture_is_what_was_searched(
    benches: DecoderBenches, tmp_path: Path, kind: DecoderKind, texts: tuple[str, ...]
) -> None:
    """Bytes as predicted, logits those of the search, every key used; the same in llama.cpp where that is here."""
    bench = benches(kind)
    found = _verified(bench, _plan(bench, texts), tmp_path / "out")
    assert found.logit_difference < 1e-4
    assert (found.runtime is not None) == llama_cpp.is_installed()
    assert (tmp_path / "out" / "Modelfile").read_text() == "FROM ./model.gguf\n"


def test_tensors_of_the_file_are_the_levels(benches: DecoderBenches, tmp_path: Path) -> None:
    """Each is read back: a level's own blocks, rows of queries and keys in llama.cpp's order, norms in float32."""
    bench = benches("llama3")
    plan, inventory = _plan(bench, WIDE), bench.workspace.inventory
    write_export(bench, plan, "gguf", tmp_path / "out")
    model = gguf_model(bench.folder)
    stored = {tensor.name: tensor for tensor in read_gguf(tmp_path / "out" / "model.gguf")}
    for module in inventory.modules:
        level, weight = plan[module.name], module.weight.name
        if level.is_dense:
            continue
        tensor = stored.pop(model.renamed(weight))
        assert (tensor.number, tensor.shape) == (GGML_TYPES[level.coding].number, module.weight.shape)
        rows = _from_file_order(tensor.load(), model.num_heads_permuted(weight))
        blocks = bench.store.tensors(module.name, level)["blocks"]
        assert np.array_equal(rows, blocks.numpy())
        assert torch.equal(
            dequantize(torch.from_numpy(rows.copy()), level.coding),
            bench.store.weight(module.name, level, torch.Size(module.weight.shape)),
        )
    assert "rope_freqs.weight" in stored
    assert {t.number for n, t in stored.items() if "norm" in n} == {0}


@pytest.mark.usefixtures("reload_here")
def test_experts_stand_in_tensors_of_their_own(benches: DecoderBenches, tmp_path: Path) -> None:
    """Gate and up, which transformers joins, apart; all experts of one in a tensor; dense ones as in the checkpoint."""
    bench = benches("qwen3-moe")
    first, second = (f"model.layers.{block}.mlp.experts" for block in range(2))
    levels = {f"{first}.gate_up_proj": "q4_0", f"{first}.down_proj": "dense", f"{second}.gate_up_proj": "dense"}
    levels[f"{second}.down_proj"] = "q8_0"
    names = [module.name for module in bench.workspace.inventory.modules]
    plan = Plan.of({name: parse_level(levels.get(name, "q4_0")) for name in names})
    bench.build(plan, "gguf")
    assert _verified(bench, plan, tmp_path / "out").logit_difference < 1e-4
    stored = {tensor.name: tensor for tensor in read_gguf(tmp_path / "out" / "model.gguf")}
    dense = load_file(bench.folder / "model.safetensors")
    blocks = bench.store.tensors(f"{first}.gate_up_proj", parse_level("q4_0"))["blocks"].view(4, 2, 64, -1)
    for place, kind in enumerate(("gate", "up")):
        packed, plain = stored[f"blk.0.ffn_{kind}_exps.weight"], stored[f"blk.1.ffn_{kind}_exps.weight"]
        assert packed.shape == plain.shape == (4, 64, 64)
        assert np.array_equal(packed.load().reshape(4, 64, -1), blocks[:, place].numpy())
        experts = [dense[f"{second}.{expert}.{kind}_proj.weight"] for expert in range(4)]
        assert plain.load().tobytes() == torch.stack(experts).view(torch.uint8).numpy().tobytes()
    assert stored["blk.0.ffn_down_exps.weight"].number == stored["blk.1.ffn_gate_exps.weight"].number
    assert stored["blk.1.ffn_down_exps.weight"].number == GGML_TYPES["q8_0"].number


@pytest.mark.parametrize(
    ("changed", "told"),
    [
        ({"norm_topk_prob": False}, "makes the weights of a token's experts sum to one"),
        ({"mlp_only_layers": [0]}, "has experts in all blocks of such a model"),
        ({"decoder_sparse_step": 2}, "has experts in all blocks of such a model"),
    ],
)
def test_mixtures_that_llama_cpp_runs_otherwise_are_refused(
    benches: DecoderBenches, tmp_path: Path, changed: dict[str, Any], told: str
) -> None:
    """By what their configs say."""
    config = json.loads((benches("qwen3-moe").folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed}))
    with pytest.raises(ModelError, match=told):
        gguf_model(tmp_path)


@pytest.mark.parametrize(
    ("kind", "changed", "told"),
    [
        ("gemma2", {"query_pre_attn_scalar": 64}, "divides scores by the root of 32, not of 64"),
        ("gemma2", {"attn_logit_softcapping": None}, "caps scores of attention in gemma2, and not in gemma3"),
        ("gemma2", {"layer_types": ["full_attention"] * 2}, "windows slide in other blocks of llama.cpp's gemma2"),
        ("gemma3", {"attn_logit_softcapping": 50.0}, "caps scores of attention in gemma2, and not in gemma3"),
        ("gemma3", {"hidden_activation": "gelu"}, "with gelu_pytorch_tanh, not 'gelu'"),
        ("phi3", {"partial_rotary_factor": 0.5}, "only whole heads are turned"),
    ],
)
def test_attention_that_llama_cpp_does_otherwise_is_refused(
    benches: DecoderBenches, tmp_path: Path, kind: DecoderKind, changed: dict[str, Any], told: str
) -> None:
    """By what a config comes to in transformers."""
    config = json.loads((benches(kind).folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    gguf_model(tmp_path)
    rope = {"rope_parameters": {**config["rope_parameters"], **changed}} if kind == "phi3" else {}
    (tmp_path / "config.json").write_text(json.dumps({**config, **changed, **rope}))
    with pytest.raises(ModelError, match=told):
        gguf_model(tmp_path)


def test_missing_packages_are_one_sentence(monkeypatch: pytest.MonkeyPatch) -> None:
    """For a request and for an export alike, with the command that mends it."""
    monkeypatch.setitem(TARGETS, "gguf", replace(TARGETS["gguf"], packages=("gguf", "no_such_package")))
    with pytest.raises(SpecError, match=r"needs no_such_package, not installed here: pip install 'tightfit\[gguf\]'"):
        known_target("gguf")


def test_rows_go_there_and_back() -> None:
    """First and second halves of each head alternate in the file."""
    rows = np.arange(12).reshape(12, 1)
    there = in_file_order(rows, 2)
    assert there[:, 0].tolist() == [0, 3, 1, 4, 2, 5, 6, 9, 7, 10, 8, 11]
    assert np.array_equal(_from_file_order(there, 2), rows)
    assert in_file_order(rows, None) is rows


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("damage", ["other level", "other file"])
def test_a_wrong_file_is_found(benches: DecoderBenches, tmp_path: Path, damage: str) -> None:
    """Another level of a module, and a file whose tensors were exchanged."""
    bench = benches("qwen2")
    plan = _plan(bench, NARROW)
    name = next(n for n, level in plan.levels if level.coding == "q4_0")
    other = plan.replace({name: parse_level("q5_0")})
    bench.build(other, "gguf")
    export = write_export(bench, plan, "gguf", tmp_path / "out")
    promised = other if damage == "other level" else plan
    if damage == "other file":
        swapped = write_export(bench, other, "gguf", tmp_path / "other")
        (swapped.folder / "model.gguf").replace(export.folder / "model.gguf")
    request = reload_request(bench)
    with pytest.raises(VerificationError, match=f"{name} takes .* bytes"):
        verify_export(export.written, bench.workspace.inventory, promised, "gguf", Promise(10**9, None), request)


@pytest.mark.parametrize(
    ("file", "change", "told"),
    [
        ("config.json", {"architectures": ["OlmoForCausalLM"]}, "a OlmoForCausalLM cannot be written as GGUF yet"),
        ("config.json", {"rope_parameters": {"rope_type": "dynamic"}}, "of the type 'dynamic'"),
        ("config.json", {"use_sliding_window": True}, "without its sliding window"),
        ("config.json", {"hidden_act": "gelu"}, "with silu, not 'gelu'"),
        ("tokenizer.json", {"pre_tokenizer": {"type": "Whitespace"}}, "does not know by name"),
        ("tokenizer.json", {"model": {"type": "WordPiece", "vocab": {}}}, "only tokenizers that merge pairs"),
        ("tokenizer.json", None, "needed for --target gguf"),
    ],
)
def test_what_llama_cpp_would_run_otherwise_is_refused(
    benches: DecoderBenches, tmp_path: Path, file: str, change: dict[str, Any] | None, told: str
) -> None:
    """By name, before anything is read of the weights."""
    for name in ("config.json", "tokenizer.json", "model.safetensors"):
        (tmp_path / name).write_bytes((benches("qwen2").folder / name).read_bytes())
    check_model(tmp_path)
    if change is None:
        (tmp_path / file).unlink()
    else:
        value = json.loads((tmp_path / file).read_text())
        (tmp_path / file).write_text(json.dumps({**value, **change}))
    with pytest.raises(ModelError, match=told):
        check_model(tmp_path)
