"""Parameters that are not stored: what transformers computes is taken, what it draws at random is not."""

from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import nn

from space.errors import ModelError
from tests.families.zoo import make_family
from workers.families.computed_parameters import computed_parameter
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model

_POSITIONS = "model.encoder.embed_positions.weight"


def test_computed_positions_are_those_of_transformers(tmp_path: Path) -> None:
    """Marian's positions are in no file; the searched model has them as transformers loads them."""
    from transformers import AutoModelForSeq2SeqLM

    folder = make_family("marian", tmp_path)
    assert _POSITIONS not in load_file(folder / "model.safetensors")
    found = load_model(folder).get_parameter(_POSITIONS)
    expected = AutoModelForSeq2SeqLM.from_pretrained(folder, dtype=torch.float32).get_parameter(_POSITIONS)
    assert found.equal(expected)
    assert len(found.unique()) > 100


def test_what_is_drawn_or_missing_is_no_value(tmp_path: Path) -> None:
    """A parameter of random numbers has no value of its own, and the given one stays; a missing weight is refused."""
    folder = make_family("marian", tmp_path)
    model = load_model(folder)
    layer = model.get_submodule("model.encoder.layers.0.fc1")
    assert isinstance(layer, nn.Linear)
    before = layer.weight.clone()
    assert computed_parameter(model, "model.encoder.layers.0.fc1.weight") is None
    assert layer.weight.equal(before)
    stored = load_file(folder / "model.safetensors")
    del stored["model.encoder.layers.0.fc1.weight"]
    save_file(stored, folder / "model.safetensors", metadata={"format": "pt"})
    with pytest.raises(ModelError, match=r"the weights lack model\.encoder\.layers\.0\.fc1\.weight"):
        inspect_model(folder)
