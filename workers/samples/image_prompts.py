"""Images and the texts behind them as the processor of a language model that sees images makes inputs of them.

Each image is cut to a square of one size, so that all samples have as many tokens of images.
Shape legend: N samples, K rows that a processor makes of a sample's image, T tokens.
"""

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import ModelError, in_one_line
from workers.model_inputs import IGNORED, LABELS, TOKENS, ModelInputs
from workers.samples.images import loading_from, read_image

_SIDE = 448
"""pixels: sixteen patches of 14, merged in pairs, each way; processors scale it to what they know"""
_TASK = "Describe the image."
_TEXT, _MASK = "input_ids", "attention_mask"
_IMAGE_TOKENS = ("image_token_id", "image_token_index")
"""names that configs have for the token that stands where an image is"""


def make_image_prompts(
    folder: Path, records: Sequence[tuple[Any, ...]], sequence_length: int, _: object = None
) -> ModelInputs:
    """Return images with their texts as answers of the model, in the turns of its chat template; texts are scored.

    Args:
        folder: the model.
        records: (file of an image, its text) each.
        sequence_length: tokens of a text that are kept; those of images come on top.

    Raises:
        CalibrationError: an image cannot be read.
        ModelError: the processor is missing or broken.

    """
    from PIL import ImageOps

    processor = load_processor(folder)
    images = [ImageOps.fit(read_image(Path(record[0])), (_SIDE, _SIDE)) for record in records]
    texts = [_prompt(processor, _cut(processor.tokenizer, record[1], sequence_length)) for record in records]
    if processor.tokenizer.pad_token is None:
        processor.tokenizer.pad_token = processor.tokenizer.eos_token or processor.tokenizer.unk_token
    try:
        found = processor(
            images=[[image] for image in images],
            text=texts,
            padding=True,
            padding_side="right",
            add_special_tokens=not processor.chat_template,
            return_tensors="pt",
        )
    except Exception as error:  # the library raises many kinds
        raise ModelError(f"{folder}: its processor cannot read images in texts: {in_one_line(error)}.") from error
    named = {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}
    labels_nt = _labels(folder, named)
    rows = {name: t if name in TOKENS else t.unflatten(0, (len(records), -1)) for name, t in named.items()}
    return ModelInputs({**rows, LABELS: labels_nt})


def _labels(folder: Path, named: dict[str, Tensor]) -> Tensor:
    """Return the (N, T) tokens of texts behind an image, and no class elsewhere. Raises ModelError."""
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    image_token = next((config[name] for name in _IMAGE_TOKENS if isinstance(config.get(name), int)), IGNORED)
    ids_nt, mask_nt = named[_TEXT], named.get(_MASK)
    is_image_nt = torch.eq(ids_nt, image_token)
    if not is_image_nt.any(1).all():
        told = " or ".join(_IMAGE_TOKENS)
        raise ModelError(f"{folder}: its processor puts no image into its texts, by {told} of config.json.")
    places = torch.arange(ids_nt.shape[1])
    last_n1 = (places * is_image_nt).amax(1, keepdim=True)
    is_scored_nt = (places > last_n1) & (torch.ones_like(ids_nt) if mask_nt is None else mask_nt).bool()
    return ids_nt.masked_fill(~is_scored_nt, IGNORED)


def _cut(tokenizer: Any, text: str, length: int) -> str:
    """Return the beginning of a text that has so many tokens."""
    ends = tokenizer(text, add_special_tokens=False, return_offsets_mapping=True, verbose=False)["offset_mapping"]
    return text if len(ends) <= length else text[: ends[length - 1][1]]


def _prompt(processor: Any, text: str) -> str:
    """Return an image and a text as the model's chat template writes them, or behind the token of an image."""
    if not processor.chat_template:
        return f"{getattr(processor, 'image_token', '')}{text}"
    asked = [{"type": "image"}, {"type": "text", "text": _TASK}]
    turns = [
        {"role": "user", "content": asked},
        {"role": "assistant", "content": [{"type": "text", "text": text}]},
    ]
    return str(processor.apply_chat_template(turns, tokenize=False))


def load_processor(folder: Path) -> Any:
    """Return a model's processor of images and texts; without its part for videos where torchvision is not there.

    Raises:
        ModelError: it is missing or broken.

    """
    kind, missing = (
        _class_of(folder),
        "preprocessor_config.json and tokenizer into the folder, or give --calibration a text",
    )
    with loading_from(folder, "processor", missing):
        return without_videos(kind).from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def _class_of(folder: Path) -> Any:
    """Return the class of processors that a folder's files name, or that of its type of models. Raises ModelError."""
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES, processor_class_from_name

    def read(name: str, field: str) -> Any:
        path = folder / name
        return json.loads(path.read_text(encoding="utf-8")).get(field) if path.is_file() else None

    files = ("processor_config.json", "preprocessor_config.json", "tokenizer_config.json")
    named = next(filter(None, (read(name, "processor_class") for name in files)), None)
    kind = processor_class_from_name(str(named or PROCESSOR_MAPPING_NAMES.get(read("config.json", "model_type"))))
    if kind is None:
        told = "put the model's own processor_config.json into the folder, or give --calibration a text"
        raise ModelError(f"{folder}: transformers knows no processor of images in texts for it: {told}.")
    return kind


def without_videos(kind: Any) -> Any:
    """Return a class of processors that reads no videos, which only torchvision decodes, where that is not there."""
    from transformers.utils import is_torchvision_available

    if is_torchvision_available() or "video_processor" not in kind.get_attributes():
        return kind
    parts = [part for part in kind.get_attributes() if part != "video_processor"]
    return type(kind.__name__, (kind,), {"get_attributes": classmethod(lambda _: parts)})
