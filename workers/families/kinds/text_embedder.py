"""Embedders of text: models without a head, whose pooled output is compared by its direction.

Which tokens are summed up with which weight comes with the samples, out of the model's own files (see
`workers/samples/text_samples.py`). A pooler that such a model has beside that is not asked, and stays as it is.
Shape legend: B texts, T tokens, D hidden.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workers.families.kinds.text_encoder import TEXT_CLASSIFIER

_LEFT = ("pooler.",)
_OWN = ("pooling",)


def _matches(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_CAUSAL_LM_MAPPING, MODEL_FOR_MASKED_LM_MAPPING, MODEL_MAPPING

    built = MODEL_MAPPING.get(type(config), None)
    of_text = type(config) in MODEL_FOR_CAUSAL_LM_MAPPING or type(config) in MODEL_FOR_MASKED_LM_MAPPING
    is_named = isinstance(built, type) and named is not None and named.lower() == built.__name__.lower()
    return is_named and of_text and not getattr(config, "is_encoder_decoder", False)


def _searched(_: Any) -> Callable[[str], bool]:
    return lambda name: not f"{name}.".startswith(_LEFT)


def _inputs(samples: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in samples.tensors.items() if name not in _OWN}


def _hidden(output: Any) -> Tensor:
    hidden_btd: Tensor = output.last_hidden_state
    return hidden_btd


def _pooled(hidden_btd: Tensor, samples: Any) -> tuple[Tensor, Tensor]:
    """Return (B, 1, D) embeddings of length one, and (B, 1) zeros: each is scored."""
    weights_bt = samples.tensors["pooling"].to(hidden_btd.dtype)
    pooled_b1d = (weights_bt[:, None] @ hidden_btd).float()
    return torch.nn.functional.normalize(pooled_b1d, dim=-1), torch.zeros(pooled_b1d.shape[:2], dtype=torch.long)


TEXT_EMBEDDER = replace(
    TEXT_CLASSIFIER,
    name="text-embedder",
    loader="AutoModel",
    matches=_matches,
    searched=_searched,
    inputs=_inputs,
    answers=_hidden,
    loss=_pooled,
)
