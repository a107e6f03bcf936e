"""Which tensors of a model are modules."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from space.inventory import Inventory
from tests.workers.tiny_models import TinyKind
from workers.families.blocks import BlockRunner
from workers.families.kinds.causal_decoder import CAUSAL_DECODER
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.models.model_files import read_headers


def test_inventory_counts_every_tensor_once(tiny: Callable[[TinyKind], Path]) -> None:
    """Modules and others together are the file; a tied head is no module of its own."""
    kinds: list[TinyKind] = ["tied", "untied", "phi", "opt"]
    for kind in kinds:
        inventory, stored = inspect_model(tiny(kind)), read_headers(tiny(kind))
        names = [m.weight.name for m in inventory.modules] + [t.name for t in inventory.others]
        assert sorted(names) == sorted(stored)
        assert inventory.dense_bytes == sum(t.info.size_bytes for t in stored.values())
        embedding = inventory.modules[0]
        assert embedding.tied == (("lm_head",) if kind in ("tied", "opt") else ())
        assert any(m.name == "lm_head" for m in inventory.modules) == (kind in ("untied", "phi"))


def test_embeddings_of_other_classes_are_sites(tiny: Callable[[TinyKind], Path]) -> None:
    """An embedding class with rules of its own (OPT's positions) keeps its module: its parameter alone is packed."""
    found = {m.name: m.site for m in inspect_model(tiny("opt")).modules if m.kind == "embedding"}
    assert list(found) == ["model.decoder.embed_tokens", "model.decoder.embed_positions"]
    positions = found["model.decoder.embed_positions"]
    assert positions is not None
    assert not positions.is_layer
    assert positions.parameter == "model.decoder.embed_positions.weight"


def test_blocks_are_those_that_a_worker_runs(tiny: Callable[[TinyKind], Path]) -> None:
    """A module's number is its place in the list of blocks, and what lies outside has none."""
    kinds: list[TinyKind] = ["tied", "untied", "phi", "opt"]
    for kind in kinds:
        inventory, runner = inspect_model(tiny(kind)), BlockRunner(load_model(tiny(kind)), CAUSAL_DECODER)
        assert inventory.num_blocks == runner.num_blocks
        prefixes = {runner.block_name(i) + ".": i for i in range(runner.num_blocks)}
        for module in inventory.modules:
            assert module.block == next((i for p, i in prefixes.items() if module.name.startswith(p)), None)


def _jamba(**sizes: Any) -> Any:
    from transformers import JambaConfig, JambaForCausalLM

    return JambaForCausalLM(
        JambaConfig(attn_layer_period=2, attn_layer_offset=1, num_experts=2, num_key_value_heads=2, **sizes)
    )


def _zamba(**sizes: Any) -> Any:
    from transformers import Zamba2Config, Zamba2ForCausalLM

    kinds = ["mamba", "hybrid"] * 2
    return Zamba2ForCausalLM(
        Zamba2Config(
            layers_block_type=kinds, n_mamba_heads=4, mamba_headdim=16, num_mem_blocks=1, adapter_rank=4, **sizes
        )
    )


def _git(**sizes: Any) -> Any:
    from transformers import GitConfig, GitForCausalLM

    vision = {"image_size": 16, "patch_size": 8, **sizes}
    return GitForCausalLM(GitConfig(vision_config=vision, bos_token_id=0, eos_token_id=1, **sizes))


def _gpt2(**sizes: Any) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    return GPT2LMHeadModel(GPT2Config(n_embd=32, n_layer=2, n_head=2, bos_token_id=0, eos_token_id=1))


def _mixtral(**sizes: Any) -> Any:
    from transformers import MixtralConfig, MixtralForCausalLM

    return MixtralForCausalLM(MixtralConfig(num_key_value_heads=2, num_local_experts=2, **sizes))


_SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 4,
    "num_attention_heads": 2,
}


@pytest.mark.parametrize(
    ("make", "kinds", "carried"),
    [
        (_gpt2, {"wte", "wpe", "c_attn", "c_proj", "c_fc"}, set()),
        (
            _mixtral,
            {"gate_up_proj", "down_proj", "embed_tokens", "q_proj", "o_proj"},
            set(),
        ),
        (_jamba, {"x_proj", "q_proj", "gate_proj", "dt_proj"}, set()),
        (_git, {"word_embeddings", "query", "dense", "output"}, {"git.image_encoder", "git.visual_projection"}),
    ],
)
def test_every_stored_tensor_is_accounted_for(
    make: Callable[..., Any], kinds: set[str], carried: set[str], tmp_path: Path
) -> None:
    """Other layers, stacks of experts, blocks of several kinds and towers: each byte is a site's or is carried over."""
    make(**_SIZES).save_pretrained(tmp_path)
    inventory, stored = inspect_model(tmp_path), read_headers(tmp_path)
    names = [source for m in inventory.modules for source in m.sources] + [t.name for t in inventory.others]
    assert sorted(names) == sorted(stored)
    assert inventory.dense_bytes == sum(t.info.size_bytes for t in stored.values())
    assert kinds <= {m.module_type for m in inventory.modules}
    assert {entry.name for entry in inventory.carried} == carried
    assert Inventory.from_json(json.loads(json.dumps(inventory.to_json()))) == inventory


def test_layers_that_several_blocks_share_stay_dense(tmp_path: Path) -> None:
    """Linear layers that are one and the same in several blocks are no sites, and are told with their reason."""
    _zamba(**_SIZES).save_pretrained(tmp_path)
    inventory = inspect_model(tmp_path)
    assert not any("shared_transformer" in m.name for m in inventory.modules)
    assert any("called in several places" in entry.reason for entry in inventory.carried)
    assert any("mamba" in m.name for m in inventory.modules)
