"""A model with other norms and biases than its checkpoint: a folder that links to its weights, and one file beside."""

import os
import shutil
from collections.abc import Mapping
from pathlib import Path

from torch import Tensor

from workers.models.companions import PAPERS, companion_files, is_inside
from workers.models.model_files import REPLACED, weight_files
from workers.whole_files import write_safetensors

_INDEX = "model.safetensors.index.json"


def place_of(cache_folder: Path, name: str) -> Path:
    """Return where the folder of values of a name is, if it was made."""
    return cache_folder / "recovered" / name[:16]


def recovered_folder(model_folder: Path, cache_folder: Path, name: str, replaced: Mapping[str, Tensor]) -> Path:
    """Return a folder that is read as the model with some tensors replaced; whole or absent.

    Args:
        model_folder: the model, or one that was made here before.
        cache_folder: of the model.
        name: of the values; the same name has the same values.
        replaced: name of a stored tensor -> its new values, of the same shape and type.

    """
    folder = place_of(cache_folder, name)
    if folder.exists() or not replaced:
        return folder if replaced else model_folder
    beside = folder.with_name(f".{folder.name}.{os.getpid()}.tmp")
    shutil.rmtree(beside, ignore_errors=True)
    beside.mkdir(parents=True)
    papers = [model_folder / name for name in PAPERS if (model_folder / name).is_file()]
    settings = [model_folder / name for name in ("config.json", _INDEX) if (model_folder / name).exists()]
    for path in [*settings, *companion_files(model_folder), *papers]:
        if path in settings or is_inside(model_folder, path):
            copy = beside / path.relative_to(model_folder)
            copy.parent.mkdir(exist_ok=True)
            shutil.copyfile(path, copy)
    for path in weight_files(model_folder):
        (beside / path.name).symlink_to(path.resolve())
    write_safetensors(beside / REPLACED, {n: t.contiguous() for n, t in replaced.items()})
    try:
        beside.rename(folder)
    except OSError:  # somebody else was faster, with the same values
        shutil.rmtree(beside, ignore_errors=True)
    return folder
