"""Models of two stacks: an encoder of text or sound, and a decoder that is judged at each token of an answer.

The answer is forced: given by the user, or the dense model's own (see `workers/samples/teacher_forced.py`).
Shape legend: B samples, T tokens of an answer, V vocabulary.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn

from space.errors import ModelError
from workers.families.block_stacks import Stacks
from workers.families.dry_forward import dry_forward
from workers.families.family import Seen
from workers.families.kinds.causal_decoder import CAUSAL_DECODER, generation_problems
from workers.model_inputs import LABELS


def _matches_text(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING

    return _is_built(MODEL_FOR_SEQ_TO_SEQ_CAUSAL_LM_MAPPING, config, named)


def _matches_speech(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING

    is_of_features = getattr(config, "num_mel_bins", None) is not None and hasattr(config, "max_source_positions")
    return is_of_features and _is_built(MODEL_FOR_SPEECH_SEQ_2_SEQ_MAPPING, config, named)


def _is_built(mapping: Any, config: Any, named: str | None) -> bool:
    built = mapping.get(type(config), None)
    is_named = built is not None and named is not None and named.lower() == built.__name__.lower()
    return is_named and bool(getattr(config, "is_encoder_decoder", False))


def two_stacks(model: Any) -> Stacks:
    """Return the blocks of the encoder and those of the decoder.

    Raises:
        ModelError: one of them has none.

    """
    return longest_list(model, model.get_encoder()), longest_list(model, model.get_decoder())


def longest_list(model: nn.Module, part: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the longest list of modules in a part of a model that lies in no other one, with its name in the model.

    Raises:
        ModelError: there is none.

    """
    inside = {module for module in part.modules() if isinstance(module, nn.ModuleList) and len(module)}
    lists = {name: m for name, m in model.named_modules() if isinstance(m, nn.ModuleList) and m in inside}
    outer = {name: m for name, m in lists.items() if not any(name.startswith(f"{other}.") for other in lists)}
    if not outer:
        raise ModelError(f"{type(part).__name__} has no list of transformer blocks; it cannot be searched yet.")
    return max(outer.items(), key=lambda named: len(named[1]))


def _inputs(samples: Any) -> dict[str, Any]:
    return {name: tensor for name, tensor in samples.tensors.items() if name != LABELS} | {"use_cache": False}


def _loss(logits_btv: Tensor, samples: Any) -> tuple[Tensor, Tensor]:
    return logits_btv, samples.tensors[LABELS].to(logits_btv.device)


def _seen_text(model: Any) -> Seen:
    def tokens(length: int) -> dict[str, Any]:
        ids = torch.zeros((1, length), dtype=torch.long, device="meta")
        return {"input_ids": ids, "decoder_input_ids": ids, "use_cache": False}

    return replace(dry_forward(model, has_cache=False, inputs=tokens), cache=None)


def _seen_speech(model: Any) -> Seen:
    def features(length: int) -> dict[str, Any]:
        shape = 1, model.config.num_mel_bins, 2 * model.config.max_source_positions
        ids = torch.zeros((1, length), dtype=torch.long, device="meta")
        return {"input_features": torch.zeros(shape, device="meta"), "decoder_input_ids": ids, "use_cache": False}

    return replace(dry_forward(model, has_cache=False, inputs=features), cache=None)


def _problems(model: Any, samples: Any) -> dict[str, list[str]]:
    """Return why a model cannot begin an answer; nothing where it can."""
    given = {n: t for n, t in samples.tensors.items() if n not in (LABELS, "decoder_input_ids")}
    return generation_problems(model, given, new_tokens=2)


ENCODER_DECODER = replace(
    CAUSAL_DECODER,
    name="encoder-decoder",
    loader="AutoModelForSeq2SeqLM",
    matches=_matches_text,
    searched=lambda _: lambda _: True,
    stages=two_stacks,
    inputs=_inputs,
    loss=_loss,
    cache=_seen_text,
    sample=None,
    problems=_problems,
)
SPEECH_TO_TEXT = replace(
    ENCODER_DECODER,
    name="speech-to-text",
    loader="AutoModelForSpeechSeq2Seq",
    matches=_matches_speech,
    cache=_seen_speech,
)
