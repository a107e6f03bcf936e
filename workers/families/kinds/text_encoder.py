"""Encoders of text with a head: masked language models, judged at replaced positions, and classifiers of sequences.

A masked language model is asked what stood where every seventh token was replaced by another of the same sequence, as a
part of its training replaces them (BERT, arXiv 1810.04805, section 3.1): that needs no token of its tokenizer. A
classifier is asked for its classes, of which its own likeliest is taken for right; one with a single output is asked
for no and yes.
Shape legend: B sequences, T tokens, P scored positions, C classes.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workers.families.dry_forward import dry_forward
from workers.families.family import Seen
from workers.families.kinds.causal_decoder import CAUSAL_DECODER

_FIRST, _EVERY = 3, 7  # positions that are asked for


def _matches_masked(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_MASKED_LM_MAPPING

    return _is_built(MODEL_FOR_MASKED_LM_MAPPING, config, named)


def _matches_classifier(config: Any, named: str | None) -> bool:
    """Tell whether it is a classifier, which finds the end of each sequence of a batch by its token for padding."""
    from transformers import MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING

    has_padding = getattr(config, "pad_token_id", None) is not None
    return has_padding and _is_built(MODEL_FOR_SEQUENCE_CLASSIFICATION_MAPPING, config, named)


def _is_built(mapping: Any, config: Any, named: str | None) -> bool:
    """Tell whether a config names the class that a table of transformers has for it, which has one stack of blocks."""
    built = mapping.get(type(config), None)
    is_named = built is not None and named is not None and named.lower() == built.__name__.lower()
    return is_named and not getattr(config, "is_encoder_decoder", False)


def _asked(length: int) -> Tensor:
    return torch.arange(min(_FIRST, length - 1), length, _EVERY)  # of the shortest sequences the last


def _with_replaced(tokens_bt: Tensor) -> dict[str, Any]:
    length = tokens_bt.shape[1]
    asked, replaced = _asked(length).to(tokens_bt.device), tokens_bt.clone()
    replaced[:, asked] = tokens_bt[:, (5 * asked + 2) % length]
    return {"input_ids": replaced}


def _where_replaced(logits_btv: Tensor, tokens_bt: Tensor) -> tuple[Tensor, Tensor]:
    asked = _asked(tokens_bt.shape[1]).to(tokens_bt.device)
    return logits_btv[:, asked], tokens_bt[:, asked]


def _classes(output: Any) -> Tensor:
    """Return (B, 1, C) logits; of a single output those of no and yes."""
    logits_bc: Tensor = output.logits
    if logits_bc.shape[1] == 1:
        logits_bc = torch.cat([torch.zeros_like(logits_bc), logits_bc], 1)
    return logits_bc[:, None]


def _seen(model: Any) -> Seen:
    """Return what a forward shows; nothing is kept of a sequence."""
    return replace(dry_forward(model, has_cache=False), cache=())


_ENCODER = replace(
    CAUSAL_DECODER,
    inputs=lambda tokens: {"input_ids": tokens},
    cache=_seen,
    sample=None,
    problems=lambda *_: {},
)
MASKED_LANGUAGE_MODEL = replace(
    _ENCODER,
    name="masked-language-model",
    loader="AutoModelForMaskedLM",
    matches=_matches_masked,
    inputs=_with_replaced,
    loss=_where_replaced,
)
TEXT_CLASSIFIER = replace(
    _ENCODER,
    inputs=lambda samples: dict(samples.tensors),
    name="text-classifier",
    loader="AutoModelForSequenceClassification",
    matches=_matches_classifier,
    head=lambda _: None,
    answers=_classes,
    loss=lambda logits, _: (logits, logits.argmax(-1)),
)
