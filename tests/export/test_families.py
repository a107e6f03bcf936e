"""Exports of models whose own code does more with a module than call it, loaded again with transformers."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from space.level import Level
from space.plan import Plan
from tests.export.exports import IDS
from tests.workers.tiny_models import VOCABULARY
from tightfit.export.checkpoint import write_checkpoint
from tightfit.export.source import Source
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics
from workers.families.blocks import BlockRunner
from workers.families.kinds.causal_decoder import CAUSAL_DECODER
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.levels.level_store import LevelStore
from workers.runtime.loaders.exported_loaders import load_exported
from workers.runtime.packed_modules import PackedEmbedding, PackedLinear, TiedHead

LEVEL = Level(4, None)
SIZES = {
    "vocab_size": VOCABULARY,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 2,
    "pad_token_id": 0,
    "bos_token_id": 0,
    "eos_token_id": 1,
}


def _build(model_type: str, **sizes: Any) -> Any:
    from transformers import AutoConfig, AutoModelForCausalLM

    torch.manual_seed(0)
    config = AutoConfig.for_model(model_type, **{**SIZES, **sizes})
    return AutoModelForCausalLM.from_config(config)


MAMBA = {"num_heads": 4, "head_dim": 16, "state_size": 8, "n_groups": 1}
BAMBA = {"attn_layer_indices": [1], "mamba_n_heads": 4, "mamba_d_head": 16, "mamba_d_state": 8, "mamba_n_groups": 1}
FAMILIES: dict[str, Callable[[], Any]] = {
    # their code draws new weights for modules that it does not find loaded
    "gpt_bigcode": lambda: _build("gpt_bigcode"),
    "nanochat": lambda: _build("nanochat", num_key_value_heads=2),
    "mamba2": lambda: _build("mamba2", **MAMBA),
    "recurrent_gemma": lambda: _build("recurrent_gemma", num_key_value_heads=2, head_dim=16, lru_width=32),
    # their code asks a module for its weight's type or place
    "llama4_text": lambda: _build(
        "llama4_text", num_key_value_heads=2, head_dim=16, intermediate_size_mlp=48, moe_layers=[]
    ),
    # a tied head with a bias of its own
    "phi": lambda: _build("phi", tie_word_embeddings=True),
    "gptj": lambda: _build("gptj", tie_word_embeddings=True, rotary_dim=8),
    "codegen": lambda: _build("codegen", tie_word_embeddings=True, num_attention_heads=4, rotary_dim=4),
    "bert": lambda: _build("bert", is_decoder=True),
    # blocks that return more than what the next one takes
    "bamba": lambda: _build("bamba", num_key_value_heads=2, **BAMBA),
    "rwkv": lambda: _build("rwkv", attention_hidden_size=32),
}


@dataclass(frozen=True, slots=True)
class _Case:
    """A dense model, and its export with every module at one level."""

    model: Any
    folder: Path
    searched: Tensor


def _randomize(model: Any) -> None:
    """Give norms and biases values of their own too, so that a forgotten one is seen."""
    for parameter in model.parameters():
        with torch.no_grad():
            parameter.add_(torch.randn(parameter.shape) * 0.05)


@pytest.fixture(params=FAMILIES, scope="module")
def case(request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory) -> _Case:
    """Give a family's model, and an export of it."""
    tmp_path = tmp_path_factory.mktemp(request.param)
    made = FAMILIES[request.param]()
    _randomize(made)
    dense, out = tmp_path / "dense", tmp_path / "out"
    made.save_pretrained(dense)
    out.mkdir()
    inventory, store = inspect_model(dense), LevelStore(tmp_path / "levels", "model", "text")
    model = load_model(dense)
    modules = dict(model.named_modules())
    for info in inventory.modules:
        (built,) = build_levels(modules[info.name].weight, Statistics(torch.eye(info.in_features)), [LEVEL])
        store.write(info.name, built)
        modules[info.name].weight.copy_(store.weight(info.name, LEVEL, modules[info.name].weight.shape))
    plan = Plan.of({m.name: LEVEL for m in inventory.modules})
    write_checkpoint(out, Source(dense, inventory, store, plan), "packed")
    with torch.no_grad():
        return _Case(model, out, model(input_ids=IDS).logits)


def test_export_is_the_searched_model(case: _Case) -> None:
    """No key is missing or left over, every module is packed, and the logits are equal to the bit."""
    loaded, problems = load_exported(case.folder)
    assert problems == {}
    packed = [m for m in loaded.modules() if isinstance(m, PackedLinear | PackedEmbedding | TiedHead)]
    assert packed
    with torch.no_grad():
        assert loaded(input_ids=IDS).logits.equal(case.searched)
    for module in packed:
        assert module.weight.dtype == torch.float32
        assert torch.isfinite(module.weight).all()


def test_every_start_gives_the_same_bits(case: _Case) -> None:
    """From every block on, and block by block, its logits are those of the whole run."""
    runner, outputs = BlockRunner(case.model, CAUSAL_DECODER), list[Any]()
    assert runner.logits(IDS, outputs).equal(case.searched)
    step = None
    for start in range(1, runner.num_blocks + 1):
        assert runner.logits(IDS, list(outputs), start).equal(case.searched)
        step = runner.run_block(start - 1, IDS, step)
    assert runner.logits(IDS, [step] * runner.num_blocks, runner.num_blocks).equal(case.searched)
