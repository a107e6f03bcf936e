"""Tiny random models of many families, as folders of the hub: every parameter is random, norms and biases too.

Trained models have no norm of ones and no bias of zeros, so that a forgotten one shows up in what an export computes.
"""

import math
import shutil
import warnings
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch

from tests.families.zoo_configs import CAUSAL, OTHERS
from tests.families.zoo_processors import SEES_IMAGES, save_processor
from tests.families.zoo_sizes import KEPT_NONE, OF_DEPTH, SMALL
from workers.models.model_files import BUNDLED_FOLDER

_RECURRENT = ("A_log", "dt_bias", "dt_proj.bias", "time_decay", "time_first", ".D", "rg_lru", "lambda")
"""parameters whose values must be what they are for a recurrence to stay finite"""


def make_family(family: str, folder: Path) -> Path:
    """Make the model of a family, with the bundled model's tokenizer."""
    make_kind(*OTHERS.get(family, (family, "AutoModelForCausalLM", CAUSAL.get(family, {}))), folder)
    if family in SEES_IMAGES:
        save_processor(family, folder)
    return folder


def make_kind(model_type: str, named: str, own: Mapping[str, Any], folder: Path) -> Path:
    """Make a small random model: of a type of config, of a class by name, with some values of its config."""
    model = _built(model_type, named, own)
    _randomize(model)
    with warnings.catch_warnings(action="ignore"):  # of complex numbers in a tower's buffers, which are not stored
        model.to(torch.bfloat16)
    model.save_pretrained(folder)
    if model_type in _EXTRACTORS:
        _EXTRACTORS[model_type]().save_pretrained(folder)
    if getattr(model, "main_input_name", "") != "pixel_values":
        for name in ("tokenizer.json", "tokenizer_config.json"):
            shutil.copy(BUNDLED_FOLDER / name, folder / name)
    return folder


def _whisper_extractor() -> Any:
    from transformers import WhisperFeatureExtractor

    return WhisperFeatureExtractor(feature_size=SMALL["num_mel_bins"], chunk_length=1, hop_length=125)


def _waveform_extractor() -> Any:
    from transformers import Wav2Vec2FeatureExtractor

    return Wav2Vec2FeatureExtractor(return_attention_mask=False)


def _image_processor() -> Any:
    from transformers import ViTImageProcessorPil

    return ViTImageProcessorPil(size={"height": SMALL["image_size"], "width": SMALL["image_size"]})


_OF_IMAGES = (
    "vit",
    "deit",
    "beit",
    "dinov2",
    "dinov3_vit",
    "siglip",
    "siglip_vision_model",
    "clip",
    "clip_vision_model",
)
_EXTRACTORS = {
    "whisper": _whisper_extractor,
    "wav2vec2": _waveform_extractor,
    **dict.fromkeys(_OF_IMAGES, _image_processor),
}


def _built(model_type: str, named: str, own: Mapping[str, Any]) -> Any:
    import transformers

    kind = type(transformers.AutoConfig.for_model(model_type))
    config = kind(**_small(kind().to_dict(), own))
    torch.manual_seed(0)
    built = getattr(transformers, named)
    return built.from_config(config) if named.startswith("Auto") else built(config)


def _small(values: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """Return a config's values at the zoo's sizes, those of its parts too, and what an entry says of them."""
    found: dict[str, Any] = {}
    for name, value in values.items():
        if isinstance(value, dict) and name.endswith("_config") and name != "per_layer_config":
            kind = {"model_type": value["model_type"]} if value.get("model_type") else {}
            found[name] = kind | _small(value, own.get(name) or {})
        elif name not in OF_DEPTH:
            found[name] = _sized(name, value)
    parts = {name for name in own if name.endswith("_config") and name != "per_layer_config"}
    return found | {name: value for name, value in own.items() if name not in parts}


def _sized(name: str, value: Any) -> Any:
    if name not in SMALL or (value is None and name in KEPT_NONE):
        return value
    return [SMALL[name]] * 2 if isinstance(value, list) and name in ("image_size", "patch_size") else SMALL[name]


@torch.no_grad()
def _randomize(model: Any) -> None:
    generator = torch.Generator().manual_seed(1)
    for name, parameter in model.named_parameters():
        noise = torch.randn(parameter.shape, generator=generator)
        if any(part in name for part in _RECURRENT):
            continue
        if parameter.ndim > 1:
            parameter.copy_(noise / math.sqrt(parameter.shape[-1]))
        else:
            parameter.add_(0.05 * noise)
    for name, buffer in model.named_buffers():
        if name.endswith("e_score_correction_bias"):
            buffer.add_(0.05 * torch.randn(buffer.shape, generator=generator))
