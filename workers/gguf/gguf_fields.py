"""The fields of a GGUF file that tell llama.cpp what model it is, as its own converter writes them."""

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.codings.ggml_types import GGML_TYPES
from workers.gguf.gguf_architectures import GgufArchitecture

_FILE_TYPES = {  # type of most bytes -> `llama_ftype` of the recipe that is named after it
    "iq1_s": 24,
    "iq1_m": 31,
    "iq2_xxs": 19,
    "iq2_xs": 20,
    "iq2_s": 28,
    "q2_K": 10,
    "iq3_xxs": 23,
    "iq3_s": 26,
    "q3_K": 12,
    "iq4_xs": 30,
    "iq4_nl": 25,
    "q4_0": 2,
    "q4_K": 15,
    "q4_1": 3,
    "q5_0": 8,
    "q5_K": 17,
    "q5_1": 9,
    "q6_K": 18,
    "q8_0": 7,
    "F32": 0,
    "F16": 1,
    "BF16": 32,
}
assert GGML_TYPES.keys() <= _FILE_TYPES.keys()  # noqa: S101 (a type has a file type)


def add_model_fields(
    writer: Any, architecture: GgufArchitecture, config: Any, name: str, num_parameters: int, main_type: str
) -> None:
    """Add what a model is.

    Args:
        writer: `gguf.GGUFWriter` of the model's architecture.
        architecture: the same.
        config: as transformers reads it.
        name: of the model.
        num_parameters: for its size label.
        main_type: the type that has the most bytes of the file.

    """
    import gguf

    writer.add_type(gguf.GGUFType.MODEL)
    writer.add_name(name)
    writer.add_size_label(gguf.size_label(num_parameters, 0, 0, 0))
    writer.add_quantization_version(gguf.GGML_QUANT_VERSION)
    writer.add_file_type(_FILE_TYPES[main_type])
    writer.add_vocab_size(config.vocab_size)
    writer.add_block_count(config.num_hidden_layers)
    writer.add_context_length(context_length(architecture, config))
    writer.add_embedding_length(config.hidden_size)
    writer.add_feed_forward_length(config.intermediate_size)
    writer.add_head_count(config.num_attention_heads)
    writer.add_head_count_kv(config.num_key_value_heads)
    writer.add_layer_norm_rms_eps(config.rms_norm_eps)
    writer.add_rope_dimension_count(head_size(config))
    writer.add_key_length(head_size(config))
    writer.add_value_length(head_size(config))
    if experts := getattr(config, "num_experts", None):
        writer.add_expert_count(experts)
        writer.add_expert_used_count(config.num_experts_per_tok)
        writer.add_expert_feed_forward_length(config.moe_intermediate_size)
    if architecture.window_of is not None:
        writer.add_sliding_window(config.sliding_window)
    if getattr(config, "attn_logit_softcapping", None) is not None:
        writer.add_attn_logit_softcapping(config.attn_logit_softcapping)
    if getattr(config, "final_logit_softcapping", None) is not None:
        writer.add_final_logit_softcapping(config.final_logit_softcapping)
    _add_rope(writer, rope_of(config))


def head_size(config: Any) -> int:
    """Return the values of one head."""
    return int(getattr(config, "head_dim", None) or config.hidden_size // config.num_attention_heads)


def context_length(architecture: GgufArchitecture, config: Any) -> int:
    """Return how many tokens llama.cpp may take: no more than a sliding window that it has not."""
    window = getattr(config, "sliding_window", None) if architecture.window_of is None else None
    return int(min(config.max_position_embeddings, window or config.max_position_embeddings))


def rope_of(config: Any) -> Mapping[str, Any]:
    """Return the parameters of a rotary embedding; where windows slide, of the blocks where they do not."""
    found: Mapping[str, Any] = getattr(config, "rope_parameters", None) or {}
    full: Mapping[str, Any] = found.get("full_attention", found)
    return full


def _add_rope(writer: Any, rope: Mapping[str, Any]) -> None:
    import gguf

    writer.add_rope_freq_base(rope["rope_theta"])
    kind = rope.get("rope_type", "default")
    if kind == "linear":
        writer.add_rope_scaling_type(gguf.RopeScalingType.LINEAR)
        writer.add_rope_scaling_factor(rope["factor"])
    elif kind == "yarn":
        writer.add_rope_scaling_type(gguf.RopeScalingType.YARN)
        writer.add_rope_scaling_factor(rope["factor"])
        writer.add_rope_scaling_orig_ctx_len(rope["original_max_position_embeddings"])


def rope_factors(config: Any) -> NDArray[np.float32] | None:
    """Return what llama.cpp divides the frequencies of a Llama 3 rotary embedding by; None for others.

    Slow frequencies are divided by `factor`, fast ones not at all, those between smoothly.
    """
    rope = rope_of(config)
    if rope.get("rope_type") != "llama3":
        return None
    size, base, factor = head_size(config), rope["rope_theta"], rope["factor"]
    low, high, old = rope["low_freq_factor"], rope["high_freq_factor"], rope["original_max_position_embeddings"]
    waves = 2 * math.pi * base ** (np.arange(0, size, 2, dtype=np.float64) / size)
    smooth = (old / waves - low) / (high - low)
    between = 1 / ((1 - smooth) / factor + smooth)
    return np.where(waves < old / high, 1.0, np.where(waves > old / low, factor, between)).astype(np.float32)
