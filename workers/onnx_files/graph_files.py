"""Files of an ONNX folder, and what its graph calls tensors: parameters as the model does, products by their module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

GRAPH_FILE = "model.onnx"
ENCODER_FILE, DECODER_FILE = "encoder.onnx", "decoder.onnx"
"""of models of two stacks, whose weights are each in one of them"""
SETTINGS_FILE = "genai_config.json"
"""of onnxruntime-genai, beside a decoder's graph"""
SOUND_FILE = "audio_processor_config.json"
"""beside it, of what becomes of sound"""
COMPUTED = "computed/"
"""what the name of a tensor begins with that no checkpoint stores, such as the table of a rotary embedding"""


def graphs_in(folder: Path) -> tuple[Path, ...]:
    """Return the graphs of a folder."""
    return tuple(folder / name for name in (GRAPH_FILE, ENCODER_FILE, DECODER_FILE) if (folder / name).exists())


def data_file(graph: Path) -> Path:
    """Return where the bytes of a graph's tensors are."""
    return graph.with_name(f"{graph.name}.data")


def is_generated(folder: Path) -> bool:
    """Tell whether a folder is one of onnxruntime-genai that goes on with text: a decoder alone."""
    return (folder / SETTINGS_FILE).exists() and (folder / GRAPH_FILE).exists()


def is_spoken_to(folder: Path) -> bool:
    """Tell whether a folder is one of onnxruntime-genai that writes down speech."""
    return (folder / SETTINGS_FILE).exists() and (folder / ENCODER_FILE).exists()


def product_name(module_name: str) -> str:
    """Return what a graph calls a linear layer's weight as its `MatMul` has it: (K, N), N rows of the module."""
    return f"{module_name}.MatMul.weight"


def rename(graph: Any, names: Mapping[str, str]) -> None:
    """Give tensors and values of an `onnx.GraphProto` other names, before -> after; the others keep theirs."""
    for tensor in graph.initializer:
        tensor.name = names.get(tensor.name, tensor.name)
    for node in graph.node:
        node.input[:] = [names.get(name, name) for name in node.input]
        node.output[:] = [names.get(name, name) for name in node.output]
