"""Processors of the zoo's language models that see images: a tokenizer with marks of images, and a chat template."""

from pathlib import Path
from typing import Any

from tests.families.zoo_sizes import IMAGE_MARKS, SMALL
from workers.models.model_files import BUNDLED_FOLDER
from workers.samples.image_prompts import without_videos

_SIDE = SMALL["image_size"]
_SQUARE = {"height": _SIDE, "width": _SIDE}
_PIXELS = {"shortest_edge": _SIDE**2, "longest_edge": _SIDE**2}
_GRID = {"patch_size": 8, "merge_size": 2, "temporal_patch_size": 2, "size": _PIXELS}
_PATCHES = (_SIDE // 8) ** 2
_FRAMED = "<vision_start><image><vision_end>"
_Entry = tuple[str, dict[str, Any], dict[str, Any], str]
_QWEN: _Entry = ("Qwen2VLImageProcessorPil", _GRID, {}, _FRAMED)
_OF: dict[str, _Entry] = {
    **dict.fromkeys(("qwen2_vl", "qwen2_5_vl", "qwen3_vl", "qwen3_vl_moe", "qwen3_5", "qwen3_5_moe"), _QWEN),
    "glm4v": ("Glm4vImageProcessorPil", _GRID, {}, _FRAMED),
    "llava": (
        "CLIPImageProcessorPil",
        {"size": {"shortest_edge": _SIDE}, "crop_size": _SQUARE},
        {"patch_size": 8, "vision_feature_select_strategy": "default", "num_additional_image_tokens": 1},
        "<image>",
    ),
    "gemma3": ("Gemma3ImageProcessorPil", {"size": _SQUARE}, {"image_seq_length": _PATCHES // 4}, "<boi>"),
    "paligemma": ("SiglipImageProcessorPil", {"size": _SQUARE, "image_seq_length": _PATCHES}, {}, "<image>"),
    "idefics3": (
        "Idefics3ImageProcessorPil",
        {"do_image_splitting": False, "size": {"longest_edge": _SIDE}, "max_image_size": {"longest_edge": _SIDE}},
        {"image_seq_len": _PATCHES // 4},
        "<image>",
    ),
    "internvl": (
        "GotOcr2ImageProcessorPil",
        {"size": _SQUARE, "crop_to_patches": False},
        {"image_seq_length": _PATCHES // 4},
        "<image>",
    ),
}
"""family -> (image processor, its options, options of the processor, how a template writes an image)"""
SEES_IMAGES = tuple(_OF)


def save_processor(family: str, folder: Path) -> None:
    """Put the processor of a family into the folder of its model."""
    import transformers
    from transformers import AutoTokenizer
    from transformers.models.auto.processing_auto import PROCESSOR_MAPPING_NAMES

    named, options, more, image = _OF[family]
    tokenizer = AutoTokenizer.from_pretrained(BUNDLED_FOLDER, extra_special_tokens=IMAGE_MARKS)
    kind = without_videos(getattr(transformers, PROCESSOR_MAPPING_NAMES[family]))
    template = (
        "{% for turn in messages %}{% for part in turn.content %}{% if part.type == 'image' %}" + image + "{% else %}"
        "{{ part.text }} {% endif %}{% endfor %}{% endfor %}"
    )
    processor = getattr(transformers, named)(**options)
    kind(image_processor=processor, tokenizer=tokenizer, chat_template=template, **more).save_pretrained(folder)
