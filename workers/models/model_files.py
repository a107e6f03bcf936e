"""Model folders: found, checked for safety and read without loading weights.

Only safetensors are ever opened. A pickle, code in the folder (`auto_map`) or a switch that asks for it is refused.
"""

import hashlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from space.errors import ModelError
from space.inventory import ITEM_BYTES
from space.site import MXFP4
from workers.bounded_files import open_regular, read_json, user_path
from workers.models.headers import StoredTensor, read_header
from workers.models.hub import fetch, is_hub_name

BUNDLED = "bundled"
"""The name of the model that ships with tightfit."""
BUNDLED_FOLDER = Path(__file__).resolve().parents[2] / "tightfit" / "model"
REPLACED = "tightfit-replaced.safetensors"
"""Beside a model's weights: tensors that take the place of those of their names (`workers/recover`)."""
_TYPES = tuple(name for name in ITEM_BYTES if not name.startswith("F8"))
"""of the tensors of a model; exports may have 8-bit floats, whose scales a model would need beside"""
_AGAIN = "Download the model again."


def resolve_model(model: str, revision: str | None = None, *, offline: bool = False) -> Path:
    """Return the local folder of a model: a folder as it is, `org/name[@revision]` fetched from the hub, or `bundled`.

    Args:
        model: as the user named it.
        revision: on the hub, where the name has none.
        offline: look only at what is here already.

    Raises:
        ModelError: no such folder, or the hub cannot give it.

    """
    folder = local_folder(model)
    if folder is not None:
        return folder
    if user_path(model).exists() or model.startswith((".", "/", "~")) or not is_hub_name(model):
        raise ModelError(f"{model}: no such folder. Give a local folder or a hub name such as `org/name`.")
    return fetch(model, revision, offline=offline)


def local_folder(model: str) -> Path | None:
    """Return the folder that a model's name is of, None where there is none: a hub name then, or a mistake."""
    folder = BUNDLED_FOLDER if model == BUNDLED else user_path(model)
    return folder.resolve() if folder.is_dir() else None


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json, without the names of code that its type does not need because transformers has it.

    Raises:
        ModelError: it is missing, not JSON, or asks for remote code.

    """
    path = folder / "config.json"
    try:
        config = read_json(path)
    except OSError as error:
        raise ModelError(f"{folder}: config.json cannot be read ({error.strerror}). Is this a model folder?") from error
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not a JSON object.")
    config = _without_needless_code(config)
    for key in _remote_code_keys(config):
        raise ModelError(f"{path}: {key!r} asks to run code from the folder, which tightfit never does. Remove it.")
    quantized = config.get("quantization_config")
    if quantized and not (isinstance(quantized, dict) and quantized.get("quant_method") == MXFP4):
        raise ModelError(f"{path}: the model is already quantized. Submit the original checkpoint.")
    return {key: value for key, value in config.items() if key != "quantization_config"}


def _without_needless_code(value: Any) -> Any:
    """Return a value of a config without the `auto_map` of types that transformers has itself, and runs itself."""
    if isinstance(value, list):
        return [_without_needless_code(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    is_needless = bool(value.get("auto_map")) and _is_native(value.get("model_type"))
    return {k: _without_needless_code(v) for k, v in value.items() if not (is_needless and k == "auto_map")}


def _is_native(model_type: Any) -> bool:
    from transformers.models.auto.configuration_auto import CONFIG_MAPPING_NAMES

    return isinstance(model_type, str) and model_type in CONFIG_MAPPING_NAMES


def _remote_code_keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("auto_map", "trust_remote_code") and inner:
                yield key
            yield from _remote_code_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _remote_code_keys(inner)


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, in name order.

    Raises:
        ModelError: there are none, or the index is none or names a file that is missing.

    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        return [folder / name for name in sorted(set(_weight_map(index).values()))]
    single = folder / "model.safetensors"
    if single.exists():
        return [single]
    pickles = sorted(p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth"))
    if pickles:
        raise ModelError(
            f"{folder}: only pickled weights ({pickles[0]}), which can run code when opened. "
            "Convert them to safetensors first (`save_pretrained` of current transformers writes them)."
        )
    raise ModelError(f"{folder}: no model.safetensors. Is this a model folder?")


def _weight_map(index: Path) -> dict[str, str]:
    """Return tensor name -> name of the file beside an index that holds it."""
    try:
        value = read_json(index)
    except (OSError, ValueError) as error:
        raise ModelError(f"{index}: not an index of weight files ({error}). {_AGAIN}") from error
    found = value.get("weight_map") if isinstance(value, dict) else None
    if not isinstance(found, dict) or not found:
        raise ModelError(f"{index}: not an index of weight files (it has no weight_map). {_AGAIN}")
    beside = {path.name for path in index.parent.iterdir()}
    for name in found.values():
        if not isinstance(name, str) or Path(name).suffix != ".safetensors" or Path(name).name != name:
            raise ModelError(f"{index}: it names {name!r}, which is no weight file beside it. {_AGAIN}")
        if name not in beside:
            raise ModelError(f"{index}: it names {name}, which is missing. {_AGAIN}")
    return found


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Return every stored tensor of a model by name, without reading weights.

    Raises:
        ModelError: a weight file cannot be used, or two of them hold a tensor of one name.

    """
    found: dict[str, StoredTensor] = {}
    for tensor in (tensor for path in weight_files(folder) for tensor in read_header(path, _TYPES)):
        name = tensor.info.name
        if name in found:
            files = f"{found[name].file.name} and in {tensor.file.name}"
            raise ModelError(f"{folder}: {name} is stored twice, in {files}. {_AGAIN}")
        found[name] = tensor
    replaced = read_header(folder / REPLACED) if (folder / REPLACED).exists() else ()
    for tensor in replaced:
        if tensor.info.name not in found or found[tensor.info.name].info != tensor.info:
            raise ModelError(f"{tensor.file}: {tensor.info.name} takes the place of no tensor of its type and shape.")
        found[tensor.info.name] = tensor
    return found


def model_digest(folder: Path) -> str:
    """Return the sha256 over config and weight files: the name of the model's exact content."""
    whole = hashlib.sha256()
    for path in [folder / "config.json", *weight_files(folder)]:
        with open_regular(path) as file:
            part = hashlib.file_digest(file, "sha256")
        whole.update(f"{path.name}:{part.hexdigest()}\n".encode())
    return whole.hexdigest()
