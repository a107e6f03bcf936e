"""The graph of a dense decoder with its key/value cache, as onnxruntime-genai's own builder makes it, in float32."""

import os
from contextlib import redirect_stderr, redirect_stdout
from pathlib import Path

GRAPH_FILE = "model.onnx"
SETTINGS_FILE = "genai_config.json"


def write_dense_graph(model_folder: Path, folder: Path) -> None:
    """Write GRAPH_FILE, its data and SETTINGS_FILE into a folder; the whole model is in memory in float32."""
    from onnxruntime_genai.models.builder import create_model, parse_extra_options

    place = ("", str(model_folder), str(folder), "fp32", "cpu", str(folder / "cache"))
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, redirect_stdout(nowhere), redirect_stderr(nowhere):
        options = parse_extra_options(*place, ["fuse_qkv=false", "hf_token=false"])
        create_model(*place, **options)
