"""A model of text and images: its language model is searched, and images still go through all of it."""

from pathlib import Path
from typing import Any

import pytest
import torch
from PIL import Image
from safetensors.torch import load_file

from tests.families.sample_sources import source_of
from tests.families.short_path import walked
from tests.families.zoo import make_family
from workers.families.read_inventory import inspect_model
from workers.run.held_weights import Resident
from workers.samples.images import read_image


def _given(model: Any, image: Image.Image) -> dict[str, torch.Tensor]:
    """Return a prompt of some tokens, an image and some more, as the processor of Qwen3.5 lays them out."""
    from transformers import Qwen2VLImageProcessorPil

    config, vision = model.config, model.config.vision_config
    side = vision.patch_size * vision.spatial_merge_size
    processor = Qwen2VLImageProcessorPil(
        patch_size=vision.patch_size,
        merge_size=vision.spatial_merge_size,
        temporal_patch_size=vision.temporal_patch_size,
        size={"shortest_edge": side**2, "longest_edge": 16 * side**2},
    )
    made = processor(images=[image], return_tensors="pt")
    count = int(made["image_grid_thw"].prod()) // vision.spatial_merge_size**2
    ids = [11, 12, config.vision_start_token_id, *[config.image_token_id] * count, config.vision_end_token_id, 13, 14]
    tokens = torch.tensor([ids])
    kinds = (tokens == config.image_token_id).int()
    return {"input_ids": tokens, "mm_token_type_ids": kinds, **{k: made[k] for k in ("pixel_values", "image_grid_thw")}}


@torch.no_grad()
def _answers(model: Any, inputs: dict[str, torch.Tensor]) -> tuple[list[int], torch.Tensor]:
    made = model.generate(**inputs, max_new_tokens=8, do_sample=False, pad_token_id=0, eos_token_id=None)
    return made[0].tolist(), model(**inputs).logits


@pytest.mark.usefixtures("reload_here")
def test_generation_from_text_and_from_an_image_agrees(tmp_path: Path) -> None:
    """The searched model and its export write the same of a text and of an image; the tower is there bit for bit."""
    from transformers import AutoModelForMultimodalLM

    from tightfit.hf import use_fast_kernels  # which lets transformers load exports, too

    folder = make_family("qwen3_5", tmp_path / "model")
    difference, source = walked(folder, tmp_path, inspect_model(folder))
    assert difference == 0
    stored, exported = (load_file(path / "model.safetensors") for path in (folder, tmp_path / "out"))
    tower = {name: tensor for name, tensor in stored.items() if "visual." in name}
    assert len(tower) > 10
    assert all(exported[name].dtype == t.dtype and exported[name].equal(t) for name, t in tower.items())
    searched = Resident(folder, source.inventory, "cpu")
    searched.hold(source.plan.levels, source.levels.weight)
    reloaded = AutoModelForMultimodalLM.from_pretrained(tmp_path / "out", dtype=torch.float32).eval()
    use_fast_kernels(reloaded, fast=False)  # the path that is exact
    image = read_image(source_of("images", tmp_path) / "01.jpg")
    others = image.transpose(Image.Transpose.ROTATE_180)
    with_image = _given(reloaded, image)
    for inputs in ({"input_ids": torch.tensor([[5, 6, 7, 8]])}, with_image):
        (ids, logits), (again, same) = (_answers(model, inputs) for model in (searched.model, reloaded))
        assert ids == again
        assert torch.equal(logits, same)
    turned = {**with_image, "pixel_values": _given(reloaded, others)["pixel_values"]}
    assert not _answers(reloaded, turned)[1].equal(logits)
