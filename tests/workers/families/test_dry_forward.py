"""What a forward without weights tells: the cache's bytes, and which modules a model uses without calling them."""

from pathlib import Path
from typing import Any

import pytest
import torch

from space.cost import key_value_bytes
from space.errors import ModelError
from space.inventory import CacheLayer, Inventory
from workers.families.dry_forward import dry_forward
from workers.families.read_inventory import inspect_model
from workers.kernels.key_values.packed_layer import PackedLayer
from workers.kernels.key_values.remembering import remember_as

WINDOW = 8
SIZES = {
    "vocab_size": 64,
    "hidden_size": 32,
    "intermediate_size": 48,
    "num_hidden_layers": 3,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "head_dim": 8,
    "pad_token_id": 0,
    "dtype": "bfloat16",
}
MIXED = {"layer_types": ["sliding_attention", "sliding_attention", "full_attention"], "sliding_window": WINDOW}
LINEAR = {"linear_num_key_heads": 2, "linear_num_value_heads": 4, "linear_key_head_dim": 8, "linear_value_head_dim": 8}
MAMBA = {"mamba_n_heads": 8, "mamba_d_head": 8, "mamba_d_state": 8, "mamba_n_groups": 1}
FAMILIES: dict[str, dict[str, Any]] = {
    "llama": {},
    "gpt_bigcode": {},  # one head for all
    "gemma2": MIXED,
    "cohere2": MIXED,
    "gemma4_text": {**MIXED, "per_layer_config": {2: {"head_dim": 16}}, "hidden_size_per_layer_input": 8},
    "bamba": {"attn_layer_indices": [1], **MAMBA},
    "qwen3_5_text": {"layer_types": ["linear_attention", "linear_attention", "full_attention"], **LINEAR},
    "gemma3n_text": {
        **MIXED,
        "num_kv_shared_layers": 1,  # the last layer attends to the cache of an earlier one
        "layer_types": ["sliding_attention", "full_attention", "full_attention"],
        "hidden_size_per_layer_input": 8,
        "vocab_size_per_layer_input": 64,
        "laurel_rank": 4,
        "activation_sparsity_pattern": [0.0, 0.0, 0.0],
        "intermediate_size": [48, 48, 48],
    },
    "lfm2": {"layer_types": ["conv", "full_attention", "conv"]},
    "deepseek_v3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
        "n_routed_experts": 8,
        "n_group": 2,
        "topk_group": 1,
        "num_experts_per_tok": 2,
        "moe_intermediate_size": 16,
    },
    "minicpm3": {
        "num_key_value_heads": 4,
        "q_lora_rank": 8,
        "kv_lora_rank": 8,
        "qk_rope_head_dim": 8,
        "qk_nope_head_dim": 8,
        "v_head_dim": 8,
    },
}


def _config(model_type: str) -> Any:
    from transformers import AutoConfig

    return AutoConfig.for_model(model_type, **{**SIZES, **FAMILIES[model_type]})


def _model(model_type: str, device: str) -> Any:
    from transformers import AutoModelForCausalLM

    with torch.device(device):
        return AutoModelForCausalLM.from_config(_config(model_type)).eval()


def _layers(model_type: str) -> tuple[CacheLayer, ...]:
    found = dry_forward(_model(model_type, "meta")).cache
    assert found is not None
    return found


def _held(value: Any) -> int:
    """Return the bytes of the tensors in a value, however deep."""
    if isinstance(value, torch.Tensor):
        return value.nbytes if value.dim() else 0
    inner = value.values() if isinstance(value, dict) else value if isinstance(value, list | tuple) else ()
    return sum(map(_held, inner))


@pytest.mark.parametrize("model_type", FAMILIES)
@pytest.mark.parametrize("length", [WINDOW - 2, 3 * WINDOW])
def test_bytes_are_those_of_a_filled_cache(model_type: str, length: int) -> None:
    """Layer by layer, shorter than a window and longer; transformers itself keeps a window less the newest token."""
    with torch.no_grad():
        cache = _model(model_type, "cpu")(input_ids=torch.zeros((1, length), dtype=torch.long)).past_key_values
    for told, layer in zip(_layers(model_type), cache.layers, strict=True):
        spare = told.token_bytes if told.window is not None and told.window < length else 0
        assert told.size_bytes(length) - spare == _held(vars(layer))


def test_layers_differ_where_the_model_says_so() -> None:
    """Windows, wider heads and layers without any growing cache are each counted as they are."""
    narrow, wide = 2 * 2 * 8 * 2, 2 * 2 * 16 * 2
    *windows, whole = _layers("gemma4_text")
    assert windows == [CacheLayer(narrow, WINDOW)] * 2
    assert whole == CacheLayer(wide, owner=whole.owner, heads=2, key_width=16, value_width=16)
    assert [layer.token_bytes for layer in _layers("bamba")] == [0, narrow, 0]
    assert _layers("bamba")[0].fixed_bytes > 0


@pytest.mark.parametrize("model_type", FAMILIES)
def test_what_is_plain_can_be_remembered_in_few_bits(model_type: str) -> None:
    """Every attention that is called plain passes its keys and values through what stands for a cache."""
    torch.manual_seed(0)
    model, tokens = _model(model_type, "cpu").float(), torch.arange(2, 14)[None]
    names = [f"{layer.owner}.{part}" for layer in _layers(model_type) if layer.is_plain for part in ("keys", "values")]
    with torch.no_grad():
        remember_as(model, dict.fromkeys(names, "kv2"))
        steps, cache = [], None
        for part in tokens.split([5, *[1] * 7], dim=1):
            output = model(input_ids=part, past_key_values=cache, use_cache=True)
            steps.append(output.logits)
            cache = output.past_key_values
        whole = model(input_ids=tokens, use_cache=False).logits
    assert cache is not None
    assert sum(isinstance(layer, PackedLayer) for layer in cache.layers) == len(names) // 2
    if model_type != "bamba":  # its own steps are 4e-4 away from one forward with a dense cache, too
        torch.testing.assert_close(torch.cat(steps, 1), whole, atol=1e-4, rtol=1e-3)


def test_cache_of_a_batch() -> None:
    """Nothing without a context, then linear up to the window, for each sequence of the batch."""
    inventory = Inventory((), (), (CacheLayer(100, 10), CacheLayer(100), CacheLayer(0, None, 7)), 3)
    assert [key_value_bytes(inventory, context, 2) for context in (0, 5, 10, 1000)] == [0, 2014, 4014, 202014]
    assert Inventory.from_json(inventory.to_json()) == inventory


def test_model_that_does_not_tell() -> None:
    """One that keeps its state inside its modules has no cache to read off."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model("recurrent_gemma", **{**SIZES, "lru_width": 32})
    with torch.device("meta"):
        assert dry_forward(AutoModelForCausalLM.from_config(config).eval()).cache is None


@pytest.mark.parametrize("model_type", ["mamba", "falcon_mamba"])
def test_weights_that_code_takes_for_itself(model_type: str, tmp_path: Path) -> None:
    """Such a module is never called: its parameter alone is packed, and the code that takes it unpacks it."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **SIZES, state_size=4)
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    inventory = inspect_model(tmp_path)
    kinds = {name.rpartition(".")[2] for name in (m.name for m in inventory.modules)}
    assert kinds == {"embeddings", "in_proj", "x_proj", "dt_proj", "out_proj"}
    assert all(m.is_layer == (m.module_type != "dt_proj") for m in inventory.modules)


@pytest.mark.parametrize("model_type", ["llama", "gpt_bigcode", "bamba", "qwen3_5_text"])
def test_modules_that_are_called_stay(model_type: str) -> None:
    """However often else a model's code asks for their weights."""
    assert not dry_forward(_model(model_type, "meta")).bypassed


@pytest.mark.parametrize(
    ("model_type", "sizes"),
    [
        ("codegen", {"num_attention_heads": 2, "rotary_dim": 4}),
        ("llama4_text", {"num_key_value_heads": 3, "intermediate_size_mlp": 48, "moe_layers": []}),
        ("llama", {"num_attention_heads": 4, "num_key_value_heads": 3}),
    ],
)
def test_sizes_that_do_not_fit(model_type: str, sizes: dict[str, Any], tmp_path: Path) -> None:
    """A model that transformers builds and cannot run is told before a job exists."""
    from transformers import AutoConfig, AutoModelForCausalLM

    config = AutoConfig.for_model(model_type, **{**SIZES, **sizes})
    AutoModelForCausalLM.from_config(config).save_pretrained(tmp_path)
    with pytest.raises(ModelError, match=r"sizes in config\.json do not fit together, so that transformers") as caught:
        inspect_model(tmp_path)
    assert str(tmp_path) in str(caught.value)
