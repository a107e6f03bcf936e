"""Tensors where they lie on disk: what is read is what the file held when it was opened."""

import os
import shutil
from collections.abc import Callable
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file

from tests.workers.tiny_models import TinyKind
from workers.families.load_modules import load_mapped, load_model
from workers.models.mapped_checkpoint import Checkpoint

WEIGHTS = "model.safetensors"


def _negated(source: Path, target: Path) -> None:
    save_file({name: -tensor for name, tensor in load_file(source).items()}, target, {"format": "pt"})


def _rename_over(folder: Path) -> None:
    _negated(folder / WEIGHTS, folder / "new")
    (folder / "new").rename(folder / WEIGHTS)


def _write_anew(folder: Path) -> None:
    tensors = {name: -tensor.clone() for name, tensor in load_file(folder / WEIGHTS).items()}
    (folder / WEIGHTS).unlink()
    save_file(tensors, folder / WEIGHTS, {"format": "pt"})


def _make_folder_anew(folder: Path) -> None:
    other = shutil.copytree(folder, folder.with_name("other"))
    shutil.rmtree(folder)
    _rename_over(other)
    other.rename(folder)


def _point_link_elsewhere(folder: Path) -> None:
    (folder / WEIGHTS).rename(folder / "first")
    _negated(folder / "first", folder / "second")
    (folder / WEIGHTS).symlink_to("second")


def _keep_size_and_time(folder: Path) -> None:
    before = (folder / WEIGHTS).stat()
    _rename_over(folder)
    os.utime(folder / WEIGHTS, ns=(before.st_atime_ns, before.st_mtime_ns))
    assert (folder / WEIGHTS).stat().st_size == before.st_size


@pytest.mark.parametrize(
    "replace", [_rename_over, _write_anew, _make_folder_anew, _point_link_elsewhere, _keep_size_and_time]
)
def test_a_model_saved_again_at_its_path_is_read_anew(
    tiny: Callable[[TinyKind], Path], tmp_path: Path, replace: Callable[[Path], None]
) -> None:
    """However its files came there; who opened the old one goes on with that."""
    folder = Path(shutil.copytree(tiny("untied"), tmp_path / "model"))
    name = "model.layers.0.mlp.up_proj.weight"
    expected = load_file(folder / WEIGHTS)[name].clone()
    old, model = Checkpoint(folder), load_mapped(folder, "cpu", [name]).model
    assert old.tensor(name).equal(expected)
    replace(folder)
    assert Checkpoint(folder).tensor(name).equal(-expected)
    assert load_model(folder).get_parameter(name).equal(-expected.float())
    assert load_mapped(folder, "cpu", [name]).model.get_parameter(name).equal(-expected)
    assert old.tensor(name).equal(expected)
    assert torch.equal(model.get_parameter(name), expected)
