"""Folders of models that tests change, and how they are opened."""

import json
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from safetensors.torch import load_file, save_file
from torch import Tensor

from space.errors import ModelError
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest, resolve_model

WEIGHTS, CONFIG = "model.safetensors", "config.json"


def open_model(folder: Path) -> None:
    """Do all that a job does to a folder before it searches."""
    found = resolve_model(str(folder))
    inspect_model(found)
    model_digest(found)
    load_model(found)


def refused(folder: Path, told: str) -> None:
    """See a folder refused by an error that says this and names it."""
    with pytest.raises(ModelError, match=told) as caught:
        open_model(folder)
    assert str(folder) in str(caught.value)


def change_config(folder: Path, **values: Any) -> None:
    """Give fields of a config other values."""
    config = json.loads((folder / CONFIG).read_text())
    (folder / CONFIG).write_text(json.dumps(config | values))


def change_weights(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of the weight file."""
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    change(tensors)
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def change_header(folder: Path, change: Callable[[dict[str, Any]], object]) -> None:
    """Change the header of the weight file, and leave its data."""
    data = (folder / WEIGHTS).read_bytes()
    length = int.from_bytes(data[:8], "little")
    header = json.loads(data[8 : 8 + length])
    change(header)
    text = json.dumps(header).encode()
    (folder / WEIGHTS).write_bytes(len(text).to_bytes(8, "little") + text + data[8 + length :])
