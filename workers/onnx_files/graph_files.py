"""Files of an ONNX folder, and what its graph calls tensors: parameters as the model does, products by their module."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

GRAPH_FILE = "model.onnx"
SETTINGS_FILE = "genai_config.json"
"""of onnxruntime-genai, beside a decoder's graph"""
COMPUTED = "computed/"
"""what the name of a tensor begins with that no checkpoint stores, such as the table of a rotary embedding"""


def is_generated(folder: Path) -> bool:
    """Tell whether a folder is one of onnxruntime-genai: a decoder that makes text."""
    return (folder / SETTINGS_FILE).exists()


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
