"""MLX exports: affine integers that MLX unpacks to the same weights, run by mlx-lm itself."""

import json
from itertools import cycle
from pathlib import Path

import numpy as np
import pytest
import torch

from search.request.model_checks import MODEL_CHECKS
from space.codings.affine_coding import GROUP_SIZES
from space.codings.coding_table import CODINGS
from space.errors import SpecError
from space.inventory import ModuleInfo, TensorInfo
from space.level import DENSE, Level, parse_level
from space.menu import Menu
from space.plan import Plan
from space.targets.mlx_target import ARCHITECTURES, MLX, WITH_WINDOWS
from space.targets.target_table import is_legal
from tests.export.decoder_models import DecoderBenches, DecoderKind
from tests.export.exports import reload_request, write_export
from tests.workers.tiny_models import Bench
from tightfit.export.verify import Promise, Verified, verify_export
from workers.compress.build import build_levels
from workers.compress.gptq import error_energy
from workers.compress.module_statistics import Statistics
from workers.kernels.unpack import unpack
from workers.models.config_defaults import mlx_defaults
from workers.runtime.loaders import mlx_loader
from workers.runtime.loaders.mlx_loader import mlx_logits

LEVELS = ("b4-g32-z", "b2-g32-z", "dense", "b8-g64-z", "b3-g32-z", "b6-g64-z", "b5-g32-z")
AFFINE = [level for kind in MLX.kinds for level in Menu(kinds=(kind,)).levels() if not level.is_dense]


def _plan(bench: Bench) -> Plan:
    turn, levels = cycle(map(parse_level, LEVELS)), {}
    for module in bench.workspace.inventory.modules:
        level: Level = next(turn)
        levels[module.name] = level if is_legal(module, level, "mlx") else DENSE
    plan = Plan.of(levels)
    bench.build(plan, "mlx")
    return plan


def _verified(bench: Bench, plan: Plan, out: Path) -> Verified:
    written = write_export(bench, plan, "mlx", out).written
    assert written.size_bytes == written.predicted_bytes
    promise = Promise(written.size_bytes, None)
    return verify_export(written, bench.workspace.inventory, plan, "mlx", promise, reload_request(bench))


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(
    "kind",
    [
        *("qwen2", "qwen3-moe"),
        *(
            pytest.param(kind, marks=pytest.mark.slow)
            for kind in ("llama3", "mistral", "qwen3", "granite", "gemma3", "phi3")
        ),
    ],
)
def test_every_architecture_is_what_was_searched(benches: DecoderBenches, tmp_path: Path, kind: DecoderKind) -> None:
    """Bytes as predicted, the weights those of the search, and mlx-lm computes the same logits of them."""
    bench = benches(kind)
    plan = _plan(bench)
    found = _verified(bench, plan, tmp_path / "out")
    assert found.logit_difference < 1e-5
    assert found.runtime is not None
    assert found.runtime[0] == "MLX"
    ids = torch.randint(2, 300, (2, 24), generator=torch.Generator().manual_seed(5))
    logits = torch.cat([*mlx_logits(tmp_path / "out", ids)])
    assert (logits - next(bench.worker.logits(plan, bench.tokens, [ids]))).abs().max() < 1e-3


_SHAPE = {
    "vocab_size": 256,
    "hidden_size": 128,
    "intermediate_size": 256,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "pad_token_id": 0,
}
_HEADS_OF_32 = ("Ernie4_5", "Gemma", "Gemma2", "Glm4", "HunYuanDenseV1", "Qwen3", "SeedOss")
_OWN = {
    **{kind: {"head_dim": 32} for kind in _HEADS_OF_32},
    "Gemma3": {"head_dim": 32, "num_hidden_layers": 6, "sliding_window": 16},
    "Cohere2": {"num_hidden_layers": 4, "sliding_window": 16},
}
"""what these need beside"""


@pytest.mark.slow
@pytest.mark.parametrize("name", ARCHITECTURES)
def test_every_class_is_computed_alike(tmp_path: Path, name: str) -> None:
    """A dense model of each class, its config filled up as exports' are, has one answer in both."""
    import transformers

    kind = name.removesuffix("ForCausalLM")
    torch.manual_seed(0)
    config = getattr(transformers, f"{kind}TextConfig" if kind == "Gemma3" else f"{kind}Config")
    model = getattr(transformers, name)(config(**{**_SHAPE, **_OWN.get(kind, {})})).eval()
    with torch.no_grad():
        for parameter in model.parameters():
            parameter.add_(torch.randn_like(parameter), alpha=0.02)
    model.save_pretrained(tmp_path)
    path = tmp_path / "config.json"
    path.write_text(json.dumps({**json.loads(path.read_text()), **mlx_defaults(tmp_path)}))
    ids = torch.randint(2, 256, (1, 32), generator=torch.Generator().manual_seed(5))
    (theirs,), own = mlx_logits(tmp_path, ids), model(ids).logits.detach()
    assert (theirs - own).abs().max() < 1e-4 * (own.max() - own.min())


@pytest.mark.usefixtures("reload_here")
def test_a_slow_cpu_is_asked_on_the_first_sequences(
    benches: DecoderBenches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """And the line says so; what it differs by there is told of all text."""
    monkeypatch.setattr(mlx_loader, "_CPU_WORK", 1)
    bench = benches("qwen2")
    found = _verified(bench, _plan(bench), tmp_path / "out")
    count = len(bench.tokens.load("held_out"))
    assert found.runtime is not None
    assert found.runtime[0] == f"MLX (1 of {count} sequences)"
    assert found.runtime[1] == pytest.approx(found.kl_divergence, rel=1e-3)


@pytest.mark.usefixtures("reload_here")
def test_our_own_container_holds_its_levels_too(benches: DecoderBenches, tmp_path: Path) -> None:
    """They are searched for it where they are named, so that its reader knows them."""
    bench = benches("qwen2")
    plan = _plan(bench)
    bench.build(plan, "packed")
    written = write_export(bench, plan, "packed", tmp_path / "out").written
    promise = Promise(written.size_bytes, None)
    found = verify_export(written, bench.workspace.inventory, plan, "packed", promise, reload_request(bench))
    assert found.logit_difference < 1e-5


@pytest.mark.parametrize("has_factor", [False, True])
@pytest.mark.parametrize("level", AFFINE, ids=str)
def test_mlx_unpacks_the_same_weight(level: Level, *, has_factor: bool) -> None:
    """And rounding loses less than MLX's own does in as many bytes."""
    import mlx.core as mx

    group = int(str(level).split("-g")[1].split("-")[0])
    generator = torch.Generator().manual_seed(group)
    weight, inputs = (torch.randn(n, 128, generator=generator) for n in (48, 512))
    outputs = torch.randn(48, 48, generator=generator)
    known = Statistics(inputs.T @ inputs, outputs.T @ outputs if has_factor else None, {2: 0.5})
    (built,) = build_levels(weight, known, [level])
    own = unpack(built.tensors, level, 128)
    words, *_ = MLX.layout(ModuleInfo("m", "linear", TensorInfo("m.weight", (48, 128), "BF16")), level)
    stored = built.tensors["qweight"].numpy().view(np.uint32)
    assert stored.shape == words.shape
    scales, biases = (mx.array(built.tensors[name].float().numpy()) for name in ("scales", "biases"))
    theirs = np.array(mx.dequantize(mx.array(stored), scales, biases, group_size=group, bits=level.bits))
    assert torch.allclose(torch.from_numpy(theirs), own, atol=1e-6)
    rounded = mx.quantize(mx.array(weight.numpy()), group, level.bits)
    nearest = mx.dequantize(*rounded, group_size=group, bits=level.bits)
    metrics = known.hessian, known.output_metric(known.damping(level.bits or 0))
    lost, usual = (error_energy(weight - found, *metrics) for found in (own, torch.from_numpy(np.array(nearest))))
    assert lost < usual
    assert unpack(built.tensors, level, 128, torch.tensor([3, 1])).equal(own[[3, 1]])


def test_levels_that_it_holds() -> None:
    """Groups of 32, 64 or 128 columns that are whole, and nothing that other targets have."""
    module = ModuleInfo("m", "linear", TensorInfo("m.weight", (8, 96), "BF16"))
    assert {str(level) for level in AFFINE if is_legal(module, level, "mlx")} == {
        f"b{bits}-g32-z" for bits in (2, 3, 4, 5, 6, 8)
    }
    assert not any(is_legal(module, parse_level(text), "mlx") for text in ("b4-g32", "b4-gch-t", "exl3-4", "q4_0"))
    assert all(CODINGS[f"affine-g{size}"].rate(4) == 4 + 32 / size for size in GROUP_SIZES)


def test_models_that_mlx_lm_names_otherwise_are_refused(benches: DecoderBenches, tmp_path: Path) -> None:
    """By the name of their class, before a job exists."""
    config = json.loads((benches("qwen2").folder / "config.json").read_text())
    (tmp_path / "config.json").write_text(json.dumps(config))
    MODEL_CHECKS["mlx"](tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "architectures": ["BertForMaskedLM"]}))
    with pytest.raises(SpecError, match="is BertForMaskedLM; --target mlx knows"):
        MODEL_CHECKS["mlx"](tmp_path)
    (tmp_path / "config.json").write_text((benches("gemma2").folder / "config.json").read_text())
    with pytest.raises(SpecError, match="runs a Gemma2ForCausalLM without its windows of 8 tokens"):
        MODEL_CHECKS["mlx"](tmp_path)
    (tmp_path / "config.json").write_text(json.dumps({**config, "sliding_window": 8}))  # which a Qwen 2 does not use
    MODEL_CHECKS["mlx"](tmp_path)
    assert len(set(ARCHITECTURES)) == len(ARCHITECTURES)
    assert set(WITH_WINDOWS) < set(ARCHITECTURES)
