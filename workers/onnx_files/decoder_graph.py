"""The graph of a dense decoder with its key/value cache, as onnxruntime-genai's own builder makes it, in float32."""

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

from workers.onnx_files.graph_files import COMPUTED, GRAPH_FILE, rename

_ROTARY_TABLES = ("cos_cache", "sin_cache")


def write_decoder_graph(model_folder: Path, folder: Path) -> None:
    """Write GRAPH_FILE, its data and SETTINGS_FILE into a folder; the whole model is in memory in float32."""
    import onnx

    build_dense(model_folder, folder)
    stored = onnx.load(folder / GRAPH_FILE, load_external_data=False)
    rename(stored.graph, {tensor.name: _called(tensor.name) for tensor in stored.graph.initializer})
    onnx.save(stored, folder / GRAPH_FILE)


def _called(name: str) -> str:
    return COMPUTED + name if name.startswith(_ROTARY_TABLES) else name.replace(".attn.", ".self_attn.")


def build_dense(model_folder: Path, folder: Path) -> None:
    """Have onnxruntime-genai write a model's graphs, their data and settings into a folder, in float32."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    place = ("", str(model_folder), str(folder), "fp32", "cpu", str(folder / "cache"))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        options = parse_extra_options(*place, ["fuse_qkv=false", "hf_token=false"])
        create_model(*place, **options)
