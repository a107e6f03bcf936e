"""Model folders: found, checked for safety and read without loading weights.

Only safetensors are ever opened. A pickle, code in the folder (`auto_map`) or a switch that asks for it is refused.
"""

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.errors import ModelError
from space.inventory import ITEM_BYTES, TensorInfo

BUNDLED = "bundled"
"""The name of the model that ships with tightfit."""
BUNDLED_FOLDER = Path(__file__).resolve().parents[2] / "tightfit" / "model"
_MAX_HEADER_BYTES = 100_000_000
_MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json")
_COMPANIONS = (  # of a model: its tokenizer in all spellings, chat templates, how it generates
    *("generation_config.json", "tokenizer*", "special_tokens_map.json", "added_tokens.json", "vocab.*", "merges.txt"),
    *("sentencepiece*.model", "spiece.model", "spm.model", "*.tiktoken", "tiktoken.model", "tekken.json"),
    *("chat_template*", "additional_chat_templates/*.jinja"),
)


@dataclass(frozen=True, slots=True)
class StoredTensor:
    """A tensor's place on disk: `start` is the absolute byte offset of its data in `file`."""

    info: TensorInfo
    file: Path
    start: int


def resolve_model(model: str, revision: str | None = None) -> Path:
    """Return the local folder of a model: a folder as it is, `org/name[@revision]` fetched from the hub, or `bundled`.

    Raises:
        ModelError: no such folder, or the hub cannot give it.

    """
    folder = BUNDLED_FOLDER if model == BUNDLED else Path(model).expanduser()
    if folder.is_dir():
        return folder.resolve()
    name, _, at_revision = model.partition("@")
    if folder.exists() or model.startswith((".", "/", "~")) or name.count("/") != 1:
        raise ModelError(f"{model}: no such folder. Give a local folder or a hub name such as `org/name`.")
    from huggingface_hub import snapshot_download  # noqa: PLC0415 (slow, and only for hub names)
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError, LocalEntryNotFoundError  # noqa: PLC0415

    try:
        allowed = [*_MODEL_FILES, *_COMPANIONS]
        found = snapshot_download(name, revision=at_revision or revision, allow_patterns=allowed)
    except (HfHubHTTPError, HFValidationError, LocalEntryNotFoundError, OSError) as error:
        reason = str(error).splitlines()[0]
        raise ModelError(f"{model}: not a local folder, and the hub could not give it: {reason}") from error
    return Path(found)


def read_config(folder: Path) -> dict[str, Any]:
    """Return config.json.

    Raises:
        ModelError: it is missing, not JSON, or asks for remote code.

    """
    path = folder / "config.json"
    try:
        config = json.loads(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise ModelError(f"{folder}: config.json cannot be read ({error.strerror}). Is this a model folder?") from error
    except ValueError as error:
        raise ModelError(f"{path}: not valid JSON ({error}).") from error
    if not isinstance(config, dict):
        raise ModelError(f"{path}: not a JSON object.")
    for key in _remote_code_keys(config):
        raise ModelError(f"{path}: {key!r} asks to run code from the folder, which tightfit never does. Remove it.")
    if "quantization_config" in config:
        raise ModelError(f"{path}: the model is already quantized. Submit the original checkpoint.")
    return config


def _remote_code_keys(value: Any) -> Iterator[str]:
    if isinstance(value, dict):
        for key, inner in value.items():
            if key in ("auto_map", "trust_remote_code") and inner:
                yield key
            yield from _remote_code_keys(inner)
    elif isinstance(value, list):
        for inner in value:
            yield from _remote_code_keys(inner)


def companion_files(folder: Path) -> list[Path]:
    """Return what lies beside config and weights and is needed to use a model: tokenizer, chat templates."""
    return sorted({path for pattern in _COMPANIONS for path in folder.glob(pattern) if path.is_file()})


def weight_files(folder: Path) -> list[Path]:
    """Return the safetensors files of a folder, in name order.

    Raises:
        ModelError: there are none, or the index names a file that is missing.

    """
    index = folder / "model.safetensors.index.json"
    if index.exists():
        try:
            names = sorted(set(json.loads(index.read_text(encoding="utf-8"))["weight_map"].values()))
        except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:
            raise ModelError(f"{index}: not an index of weight files ({error!r}). Download the model again.") from error
        for name in names:
            if Path(name).name != name or not (folder / name).exists():
                raise ModelError(f"{folder}: {index.name} names {name}, which is missing. Download the model again.")
        return [folder / name for name in names]
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


def read_header(path: Path) -> list[StoredTensor]:
    """Return the tensors of one safetensors file from its header alone, in file order.

    Raises:
        ModelError: the file is truncated or not safetensors.

    """
    size = path.stat().st_size
    try:
        with path.open("rb") as file:
            length = int.from_bytes(file.read(8), "little")
            if not 0 < length <= min(_MAX_HEADER_BYTES, size - 8):
                raise ModelError(f"{path}: truncated or not a safetensors file. Download it again.")
            header = json.loads(file.read(length))
        entries = {k: v for k, v in header.items() if k != "__metadata__"}
        base = 8 + length
        found = [
            StoredTensor(TensorInfo(name, tuple(e["shape"]), e["dtype"]), path, base + e["data_offsets"][0])
            for name, e in entries.items()
        ]
        end = base + max((e["data_offsets"][1] for e in entries.values()), default=0)
    except (ValueError, LookupError, TypeError, AttributeError) as error:
        raise ModelError(f"{path}: not a safetensors file ({error}).") from error
    if end != size:
        raise ModelError(f"{path}: {size} bytes, but its header promises {end}: truncated. Download it again.")
    for tensor in found:
        if tensor.info.dtype not in ITEM_BYTES:
            raise ModelError(f"{path}: {tensor.info.name} has the type {tensor.info.dtype}, which is not supported.")
        begin, stop = entries[tensor.info.name]["data_offsets"]
        if begin < 0 or stop - begin != tensor.info.size_bytes:
            raise ModelError(f"{path}: {tensor.info.name} has no place for {tensor.info.shape}. Download it again.")
    return sorted(found, key=lambda t: t.start)


def read_headers(folder: Path) -> dict[str, StoredTensor]:
    """Return every stored tensor of a model by name, without reading weights."""
    return {tensor.info.name: tensor for path in weight_files(folder) for tensor in read_header(path)}


def model_digest(folder: Path) -> str:
    """Return the sha256 over config and weight files: the name of the model's exact content."""
    whole = hashlib.sha256()
    for path in [folder / "config.json", *weight_files(folder)]:
        with path.open("rb") as file:
            part = hashlib.file_digest(file, "sha256")
        whole.update(f"{path.name}:{part.hexdigest()}\n".encode())
    return whole.hexdigest()
