"""Tiny random decoders, such as runtimes of their own have: GGUF, ONNX; 256 wide or 64."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import torch

from tests.workers.tiny_models import VOCABULARY, Bench, save_tokenizer

DecoderKind = Literal[
    "llama3", "mistral", "qwen2", "qwen3", "qwen3-moe", "granite", "gemma2", "gemma3", "phi3", "ernie", "hunyuan"
]  # fmt: skip
DecoderBenches = Callable[[DecoderKind], Bench]
"""kind -> its model, levels and answers, made once"""


def make_decoder(folder: Path, kind: DecoderKind) -> Path:
    """Save a model and its tokenizer; the seed is fixed."""
    import transformers

    torch.manual_seed(0)
    name = _CLASSES[kind]
    config = getattr(transformers, _CONFIGS.get(kind, f"{name}Config"))(**{**_SHAPE, **_OWN[kind]})
    model: Any = getattr(transformers, f"{name}ForCausalLM")(config)
    for parameter_name, parameter in model.named_parameters():
        if parameter_name.endswith("bias") or parameter.ndim == 1:
            torch.nn.init.normal_(parameter, mean=parameter_name.endswith("norm.weight"), std=0.1)
    model.to(torch.bfloat16).save_pretrained(folder)
    save_tokenizer(folder)
    return folder


_CLASSES: dict[DecoderKind, str] = {
    "llama3": "Llama",
    "mistral": "Mistral",
    "qwen2": "Qwen2",
    "qwen3": "Qwen3",
    "qwen3-moe": "Qwen3Moe",
    "granite": "Granite",
    "gemma2": "Gemma2",
    "gemma3": "Gemma3",
    "phi3": "Phi3",
    "ernie": "Ernie4_5",
    "hunyuan": "HunYuanDenseV1",
}
_CONFIGS: dict[DecoderKind, str] = {"gemma3": "Gemma3TextConfig"}
_SHAPE: dict[str, Any] = {
    "vocab_size": VOCABULARY,
    "num_hidden_layers": 2,
    "num_attention_heads": 4,
    "num_key_value_heads": 2,
    "max_position_embeddings": 256,
    "initializer_range": 0.15,
    "bos_token_id": 0,
    "eos_token_id": 1,
}
_SMALL = {"hidden_size": 64, "intermediate_size": 96}
_WINDOWS = {"head_dim": 32, "query_pre_attn_scalar": 32, "sliding_window": 8}
_OWN: dict[DecoderKind, dict[str, Any]] = {
    "llama3": {
        "hidden_size": 256,
        "intermediate_size": 256,
        "tie_word_embeddings": True,
        "rope_parameters": {
            "rope_type": "llama3",
            "rope_theta": 10000.0,
            "factor": 8.0,
            "low_freq_factor": 1.0,
            "high_freq_factor": 4.0,
            "original_max_position_embeddings": 64,
        },
    },
    "mistral": {**_SMALL, "head_dim": 32, "sliding_window": None, "tie_word_embeddings": False},
    "qwen2": {**_SMALL, "vocab_size": VOCABULARY + 8, "tie_word_embeddings": False},
    "qwen3": {**_SMALL, "head_dim": 32, "tie_word_embeddings": True},
    "qwen3-moe": {
        **_SMALL,
        "head_dim": 32,
        "moe_intermediate_size": 64,
        "num_experts": 4,
        "num_experts_per_tok": 2,
        "norm_topk_prob": True,
        "tie_word_embeddings": True,
    },
    "gemma2": {**_SMALL, **_WINDOWS},
    "gemma3": {**_SMALL, **_WINDOWS, "num_hidden_layers": 6},
    "phi3": {**_SMALL, "pad_token_id": 0, "sliding_window": None},
    "ernie": {**_SMALL, "head_dim": 32},
    "hunyuan": {**_SMALL, "head_dim": 32, "pad_token_id": 0},
    "granite": {**_SMALL, "embedding_multiplier": 3.0, "logits_scaling": 2.0, "residual_multiplier": 0.5},
}
