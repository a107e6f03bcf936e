"""Language models that see images, judged by the text behind an image: their towers of images are searched, too.

The tower runs before the blocks, in every forward, as an embedding does. A model of several media whose job is given
text alone is of the family in `multimodal_decoder.py`.
Shape legend: B samples, K rows that a processor makes of a sample's image, T tokens, V vocabulary.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

from torch import Tensor

from workers.families.dry_forward import dry_forward
from workers.families.family import Seen
from workers.families.kinds.causal_decoder import generation_problems, what_text_passes
from workers.families.kinds.image_models import outside_own_attention
from workers.families.kinds.multimodal_decoder import MULTIMODAL_DECODER
from workers.model_inputs import LABELS, TOKENS

_SOUND = ("audio", "speech", "sound")


def _matches(config: Any, named: str | None) -> bool:
    return hasattr(config, "vision_config") and MULTIMODAL_DECODER.matches(config, named)


def _searched(model: Any) -> Callable[[str], bool]:
    """Return what tells by name what neither belongs to sound nor lies inside torch's own attention."""
    is_outside = outside_own_attention(model)
    return lambda name: is_outside(name) and not any(word in name for word in _SOUND)


def _seen(model: Any) -> Seen:
    """Return what text shows of the language model; images need values, so that nothing is known of their tower."""
    found, is_text = dry_forward(model), what_text_passes(model)
    return replace(found, unused=frozenset(filter(is_text, found.unused)))


def _inputs(samples: Any) -> dict[str, Any]:
    """Return tensors as a processor lays out a batch: (B, T) of tokens, and (B * K, ...) of images."""
    named = {name: tensor for name, tensor in samples.tensors.items() if name != LABELS}
    return {name: t if name in TOKENS else t.flatten(0, 1) for name, t in named.items()} | {"use_cache": False}


def _loss(logits_btv: Tensor, samples: Any) -> tuple[Tensor, Tensor]:
    """Return the logits before each token, and that token where it is text behind an image."""
    return logits_btv[:, :-1], samples.tensors[LABELS][:, 1:].to(logits_btv.device)


def _problems(model: Any, samples: Any) -> dict[str, list[str]]:
    given = {name: tensor for name, tensor in _inputs(samples).items() if name != "use_cache"}
    return generation_problems(model, given)


IMAGE_TEXT_DECODER = replace(
    MULTIMODAL_DECODER,
    name="image-text-decoder",
    matches=_matches,
    searched=_searched,
    inputs=_inputs,
    loss=_loss,
    cache=_seen,
    sample=None,
    problems=_problems,
)
