"""Speech recognition by frames (CTC): each frame of sound has its own distribution over characters.

The dense model's likeliest class of a frame is taken for right.
Shape legend: B samples, T frames, V characters.
"""

from dataclasses import replace
from typing import Any

import torch
from torch import Tensor

from workers.families.dry_forward import dry_forward
from workers.families.family import Seen
from workers.families.kinds.encoder_decoder import longest_list
from workers.families.kinds.text_encoder import TEXT_CLASSIFIER
from workers.model_inputs import IGNORED

_SHARE = "real_share"
_VALUES = 8000  # of a waveform, for each token that is asked for: half a second


def _matches(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_CTC_MAPPING

    built = MODEL_FOR_CTC_MAPPING.get(type(config), None)
    return built is not None and named is not None and named.lower() == built.__name__.lower()


def _seen(model: Any) -> Seen:
    def sound(length: int) -> dict[str, Any]:
        name = getattr(model, "main_input_name", "input_values")
        width = (getattr(model.config, "feature_projection_input_dim", None) or 160,)
        shape = (1, length * _VALUES) if name == "input_values" else (1, 100 * length, *width)
        return {name: torch.zeros(shape, device="meta")}

    return replace(dry_forward(model, has_cache=False, inputs=sound), cache=())


def _loss(logits_btv: Tensor, samples: Any) -> tuple[Tensor, Tensor]:
    """Return all logits, and the likeliest classes of the frames that are no padding."""
    share_b = samples.tensors[_SHARE].to(logits_btv.device)
    is_real = torch.arange(logits_btv.shape[1], device=logits_btv.device) < share_b[:, None] * logits_btv.shape[1]
    return logits_btv, logits_btv.argmax(-1).where(is_real, IGNORED)


SPEECH_FRAMES = replace(
    TEXT_CLASSIFIER,
    name="speech-frames",
    loader="AutoModelForCTC",
    matches=_matches,
    searched=lambda _: lambda _: True,
    stages=lambda model: (longest_list(model, getattr(model.base_model, "encoder", model)),),
    inputs=lambda samples: {name: tensor for name, tensor in samples.tensors.items() if name != _SHARE},
    answers=lambda output: output.logits,
    loss=_loss,
    cache=_seen,
)
