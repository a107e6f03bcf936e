"""Models of images: classifiers, those without a head, and those that put images and texts into one space.

A classifier's own likeliest class is taken for right. A model without a head is compared by what users take of it: its
pooled output, where it has one, and features of places spread over the image. A model of two towers is compared by
the embedding of an image and by that of a text.
Shape legend: B samples, T places (a class token, patches), P scored vectors, D width.
"""

from collections.abc import Callable
from dataclasses import replace
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.functional import normalize, pad

from workers.families.block_stacks import Stacks
from workers.families.dry_forward import dry_forward
from workers.families.family import Seen
from workers.families.kinds.encoder_decoder import longest_list
from workers.families.kinds.text_encoder import TEXT_CLASSIFIER

_PLACES = 16
"""of which features are compared, the first one (a class token, in most models) among them"""
_NUMBERS = ("hidden_size", "num_hidden_layers")


def _matches_classifier(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING

    of_images = getattr(config, "vision_config", config)
    return _has_one_width(of_images) and _is_built(MODEL_FOR_IMAGE_CLASSIFICATION_MAPPING, config, named)


def _matches_embedder(config: Any, named: str | None) -> bool:
    from transformers import MODEL_FOR_IMAGE_MAPPING, MODEL_MAPPING

    of_images = type(config) in MODEL_FOR_IMAGE_MAPPING or type(config).__name__.endswith("VisionConfig")
    return of_images and _has_one_width(config) and _is_built(MODEL_MAPPING, config, named)


def _matches_towers(config: Any, named: str | None) -> bool:
    """Tell whether it has a tower of images and one of texts, each with transformer blocks of one width."""
    from transformers import MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING

    has_both = all(hasattr(config, part) for part in ("vision_config", "text_config"))
    is_built = has_both and _is_built(MODEL_FOR_ZERO_SHOT_IMAGE_CLASSIFICATION_MAPPING, config, named)
    return is_built and _has_one_width(config.vision_config)


def _has_one_width(config: Any) -> bool:
    """Tell whether a config is of still images, through transformer blocks of one width: pyramids have several."""
    has_numbers = all(isinstance(getattr(config, name, None), int) for name in _NUMBERS)
    is_still = not hasattr(config, "num_frames") and not hasattr(config, "tubelet_size")
    return has_numbers and is_still and all(hasattr(config, name) for name in ("patch_size", "image_size"))


def _is_built(mapping: Any, config: Any, named: str | None) -> bool:
    """Tell whether a config names a class that a table of transformers has for it."""
    built = mapping.get(type(config), None)
    known = built if isinstance(built, tuple) else (built,)
    return named is not None and any(named.lower() == kind.__name__.lower() for kind in known if kind is not None)


def _image(config: Any) -> dict[str, Tensor]:
    """Return an image of the size that a config tells, without values."""
    size, channels = config.image_size, getattr(config, "num_channels", None) or 3
    height, width = (size, size) if isinstance(size, int) else tuple(size)[:2]
    return {"pixel_values": torch.zeros((1, channels, height, width), device="meta")}


def _seen(model: Any) -> Seen:
    config = getattr(model.config, "vision_config", model.config)
    return replace(dry_forward(model, has_cache=False, inputs=lambda _: _image(config)), cache=())


def _seen_towers(model: Any) -> Seen:
    def both(length: int) -> dict[str, Any]:
        most = int(getattr(model.config.text_config, "max_position_embeddings", None) or length)
        ids = torch.zeros((1, min(length, most)), dtype=torch.long, device="meta")
        return _image(model.config.vision_config) | {"input_ids": ids}

    return replace(dry_forward(model, has_cache=False, inputs=both), cache=())


def outside_own_attention(model: nn.Module) -> Callable[[str], bool]:
    """Return what tells by name all but the inside of torch's own attention, which no hook sees."""
    inside = tuple(f"{name}." for name, part in model.named_modules() if isinstance(part, nn.MultiheadAttention))
    return lambda name: not f"{name}.".startswith(inside)


def _stack(model: nn.Module) -> Stacks:
    return (longest_list(model, model),)


def _two_towers(model: Any) -> Stacks:
    """Return the blocks of the tower of images and those of the tower of texts, in the order that they run in."""
    return longest_list(model, model.vision_model), longest_list(model, model.text_model)


def _features(output: Any) -> Tensor:
    """Return (B, P, D) features of places, before them the pooled output where there is one, with zeros behind it."""
    hidden_btd: Tensor = output.last_hidden_state
    count = hidden_btd.shape[1]
    places = torch.linspace(0, count - 1, min(_PLACES, count)).round().long()
    chosen_bpd, pooled_bd = hidden_btd[:, places], getattr(output, "pooler_output", None)
    if pooled_bd is None:
        return chosen_bpd
    width = max(chosen_bpd.shape[-1], pooled_bd.shape[-1])
    parts = [pad(part, (0, width - part.shape[-1])) for part in (pooled_bd[:, None], chosen_bpd)]
    return torch.cat(parts, 1)


def _embeddings(output: Any) -> Tensor:
    """Return the (B, 2, D) embeddings of images and of their texts."""
    return torch.stack([output.image_embeds, output.text_embeds], 1)


def _directions(vectors_bpd: Tensor, _: Any) -> tuple[Tensor, Tensor]:
    """Return vectors of length one, and (B, P) zeros: each is scored."""
    found = normalize(vectors_bpd.float(), dim=-1)
    return found, torch.zeros(found.shape[:2], dtype=torch.long)


IMAGE_CLASSIFIER = replace(
    TEXT_CLASSIFIER,
    name="image-classifier",
    loader="AutoModelForImageClassification",
    matches=_matches_classifier,
    searched=outside_own_attention,
    stages=_stack,
    cache=_seen,
)
IMAGE_EMBEDDER = replace(
    IMAGE_CLASSIFIER,
    name="image-embedder",
    loader="AutoModel",
    matches=_matches_embedder,
    answers=_features,
    loss=_directions,
)
IMAGE_TEXT_EMBEDDER = replace(
    IMAGE_EMBEDDER,
    name="image-text-embedder",
    loader="AutoModelForZeroShotImageClassification",
    matches=_matches_towers,
    stages=_two_towers,
    cache=_seen_towers,
    answers=_embeddings,
)
