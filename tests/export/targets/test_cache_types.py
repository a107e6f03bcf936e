"""Keys and values in few bits, as runtimes are told by an option: what is measured is what each runtime computes."""

from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from space.codings.cache_coding import GGML_CACHE_TYPES
from space.cost import module_bytes
from space.level import DENSE, parse_level
from space.plan import Plan
from space.targets.cache_sites import with_cache_sites
from space.targets.target_table import is_legal, items_of_model
from tests.export.decoder_models import DecoderBenches, DecoderKind
from tests.export.exports import reload_request, write_export
from tests.workers.tiny_models import Bench
from tightfit.export.targets.writer import Cache
from tightfit.export.targets.writer_table import WRITERS
from tightfit.export.verify import Promise, verify_export
from tightfit.model_card import program_of
from tightfit.origin import Origin
from workers.gguf import llama_cpp
from workers.kernels.ggml.ggml_library import dequantize, quantize
from workers.kernels.key_values import ggml_key_values
from workers.kernels.key_values.rounding import rounded
from workers.worker import Worker

CONTEXT, BATCH = 64, 2


def _with_caches(bench: Bench, target: str) -> Bench:
    inventory = with_cache_sites(bench.workspace.inventory, CONTEXT, BATCH, target)
    workspace = replace(bench.workspace, inventory=inventory)
    return replace(bench, workspace=workspace, worker=Worker(workspace))


def _plan(bench: Bench, target: str, weights: str, cache: str) -> Plan:
    inventory, level = bench.workspace.inventory, parse_level(weights)
    levels = {m.name: level if is_legal(m, level, target) else DENSE for m in inventory.modules}
    bench.build(Plan.of(levels), target)
    return Plan.of(levels | {c.name: parse_level(cache) for c in inventory.caches})


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(
    ("target", "kind", "weights", "cache", "runtime"),
    [
        *(("gguf", "qwen3", "q8_0", f"kv-{name}", "llama.cpp") for name in ("q8_0", "q5_1", "q4_0")),
        *(("mlx", "qwen3", "b8-g32-z", f"kv{bits}-z", "MLX") for bits in (8, 4, 2)),
        ("mlx", "llama3", "b8-g64-z", "kv4-z", "MLX"),
        ("vllm", "llama3", "b8-gch", "kv8-f", "compressed-tensors"),
    ],
)
def test_the_runtime_computes_what_was_measured(
    benches: DecoderBenches, tmp_path: Path, target: str, kind: DecoderKind, weights: str, cache: str, runtime: str
) -> None:
    """Its KL with such a cache is ours (the check of an export raises otherwise), and not that of another cache."""
    bench = _with_caches(benches(kind), target)
    plan = _plan(bench, target, weights, cache)
    written = write_export(bench, plan, target, tmp_path / "out").written
    promise = Promise(written.size_bytes, None)
    found = verify_export(written, bench.workspace.inventory, plan, target, promise, reload_request(bench))
    assert found.logit_difference < 1e-4
    if runtime == "llama.cpp" and not llama_cpp.is_installed():
        return
    assert found.runtime is not None
    assert found.runtime[0] == runtime
    plain = verify_export(
        written,
        bench.workspace.inventory,
        plan.replace({c.name: DENSE for c in bench.workspace.inventory.caches}),
        target,
        promise,
        reload_request(bench),
    )
    assert found.kl_divergence > plain.kl_divergence
    if parse_level(cache).bits != 8:  # of such little loss the tolerance would not tell
        assert found.runtime[1] > 1.2 * plain.kl_divergence


@pytest.mark.parametrize("bits", [8, 5, 4])
def test_blocks_are_those_of_ggml(bits: int) -> None:
    """Its own quantizer gives the same values, where heads are too narrow to be turned."""
    values = torch.randn(2, 3, 5, 32, generator=torch.Generator().manual_seed(bits))
    values[0, 0, 0] = 0.0
    name = GGML_CACHE_TYPES[bits]
    theirs = dequantize(quantize(values.reshape(-1, 32), name, None), name).view(values.shape)
    ours = rounded(values, parse_level(f"kv-{name}"), "keys")
    assert (ours - theirs).abs().max() < 1e-6


@pytest.mark.skipif(not llama_cpp.is_installed(), reason="llama.cpp is not here")
def test_heads_are_turned_as_in_llama_cpp(benches: DecoderBenches, tmp_path: Path, monkeypatch: Any) -> None:
    """Its logits are nearer to ours than to those of heads that are not turned, or turned in other blocks."""
    bench = _with_caches(benches("llama3"), "gguf")
    plan = _plan(bench, "gguf", "q8_0", "kv-q4_0")
    write_export(bench, plan, "gguf", tmp_path / "out")
    ids = bench.tokens.load("held_out")
    with llama_cpp.opened(tmp_path / "out" / "model.gguf", ids.shape[1], cache=plan.cache_level) as runtime:
        theirs = torch.cat([*runtime.logits(ids)]).log_softmax(-1)

    def distance() -> float:
        ours = next(bench.worker.logits(plan, bench.tokens, [ids])).log_softmax(-1)
        return float((theirs.exp() * (theirs - ours)).sum(-1).mean())

    found = distance()
    for width in (1, 32):
        bench.worker.engine.release()
        monkeypatch.setattr(ggml_key_values, "_width", lambda *_, width=width: width)
        assert found < 0.8 * distance()


@pytest.mark.parametrize("part", ["keys", "values"])
def test_wide_heads_are_turned(part: str) -> None:
    """One far value does not cost the others of its block their steps."""
    values = torch.randn(1, 1, 256, 128, generator=torch.Generator().manual_seed(0))
    values[..., 5] = 40.0

    def error(some: Tensor) -> Any:
        return (rounded(some, parse_level("kv-q4_0"), part) - some)[..., 6:32].square().mean()

    assert error(values) < 0.5 * error(values[..., :32])


@pytest.mark.parametrize("width", [32, 64, 96])
@pytest.mark.parametrize("bits", [2, 4, 8])
def test_groups_are_those_of_mlx(width: int, bits: int) -> None:
    """To the bit, its scales and biases in bfloat16 as in a model of that type."""
    mx, np = pytest.importorskip("mlx.core"), pytest.importorskip("numpy")
    values = torch.randn(2, 3, 5, width, generator=torch.Generator().manual_seed(bits)) + 0.5
    size = 64 if width == 64 else 32
    codes, *affine = mx.quantize(mx.array(values.numpy()), group_size=size, bits=bits)
    scales, biases = (x.astype(mx.bfloat16).astype(mx.float32) for x in affine)
    theirs = np.array(mx.dequantize(codes, scales, biases, group_size=size, bits=bits))
    assert torch.equal(rounded(values, parse_level(f"kv{bits}-z"), "keys"), torch.from_numpy(theirs))


def test_floats_end_where_vllm_ends_them() -> None:
    """At 448, not at infinity."""
    values = torch.tensor([[[[1000.0, -1000.0, 0.3, 448.0]]]])
    assert rounded(values, parse_level("kv8-f"), "values").tolist() == [[[[448.0, -448.0, 0.3125, 448.0]]]]


@pytest.mark.parametrize(
    ("target", "level", "told"),
    [
        ("gguf", "kv-q4_0", "llama-server -m model.gguf -c 8192 -np 4 -fa on -ctk q4_0 -ctv q4_0"),
        ("gguf", "kv-q8_0", "OLLAMA_FLASH_ATTENTION=1 OLLAMA_KV_CACHE_TYPE=q8_0"),
        ("mlx", "kv4-z", "--kv-bits 4 --kv-group-size 64 --quantized-kv-start 0"),
        ("vllm", "kv8-f", "--max-model-len 2048 --max-num-seqs 4 --kv-cache-dtype fp8_e4m3"),
    ],
)
def test_the_card_tells_the_runtime(target: str, level: str, told: str) -> None:
    """The options that a user types; mlx-lm cannot forget old tokens of a packed cache, so that it is not told to."""
    loading = WRITERS[target].loading(program_of(Origin(), "causal-decoder", Cache(2048, 4, parse_level(level), 128)))
    assert told in loading
    assert "--max-kv-size" not in loading


@pytest.mark.parametrize("target", ["gguf", "mlx", "vllm"])
def test_all_caches_of_a_plan_are_one_choice(benches: DecoderBenches, target: str) -> None:
    """One option tells a runtime of all of them; their bytes are its own."""
    inventory = _with_caches(benches("llama3"), target).workspace.inventory
    names = tuple(cache.name for cache in inventory.caches)
    assert items_of_model(inventory, target)[names[0]] == names
    sizes = {"gguf": ("kv-q4_0", 18 * 2), "mlx": ("kv4-z", 32 + 4), "vllm": ("kv8-f", 64)}
    level, size = sizes[target]
    assert module_bytes(inventory.caches[0], parse_level(level), target) == CONTEXT * BATCH * 2 * size
