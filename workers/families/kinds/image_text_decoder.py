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
from workers.families.kinds.causal_decoder import what_text_passes
from workers.families.kinds.image_models import outside_own_attention
from workers.families.kinds.multimodal_decoder import MULTIMODAL_DECODER

_LABELS, _TEXT = "labels", "input_ids"
_OF_TOKENS = 2  # dimensions of what a processor makes of texts
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
    named = {name: tensor for name, tensor in samples.tensors.items() if name != _LABELS}
    return {name: t if t.ndim == _OF_TOKENS else t.flatten(0, 1) for name, t in named.items()} | {"use_cache": False}


def _loss(logits_btv: Tensor, samples: Any) -> tuple[Tensor, Tensor]:
    """Return the logits before each token, and that token where it is text behind an image."""
    return logits_btv[:, :-1], samples.tensors[_LABELS][:, 1:].to(logits_btv.device)


def _problems(model: Any, samples: Any) -> dict[str, list[str]]:
    """Return why a model cannot write a token behind an image and a text; nothing where it can."""
    given = {name: tensor for name, tensor in _inputs(samples).items() if name != "use_cache"}
    try:
        made = model.generate(**given, max_new_tokens=1, do_sample=False, num_beams=1, pad_token_id=0)
    except Exception as error:  # noqa: BLE001 (whatever keeps users from generating)
        return {"generate": [(str(error).splitlines() or [""])[0] or type(error).__name__]}
    return {} if made.shape[1] == given[_TEXT].shape[1] + 1 else {"generate": ["it makes no token"]}


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
