"""The graphs of Whisper, as onnxruntime-genai's own builder makes them, in float32: what is heard, and what is said.

The first answers with keys and values of all cross attentions, so that their projections are computed once; the second
has a key/value cache. The builder gives queries, keys and values of the encoder to one product; here each has its own.
"""

import re
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

from workers.onnx_files.decoder_graph import build_dense
from workers.onnx_files.graph_files import DECODER_FILE, ENCODER_FILE, product_name, rename

_COMMON = (
    (r"\.Add\.bias$", ".bias"),
    (r"\.input_layernorm\.|\.self_attn_layernorm\.", ".self_attn_layer_norm."),
    (r"\.cross_attn_layernorm\.", ".encoder_attn_layer_norm."),
    (r"\.post_attention_layernorm\.", ".final_layer_norm."),
    (r"\.mlp\.fc", ".fc"),
    (r"\.cross_attn\.", ".encoder_attn."),
    (r"\.attn\.(?!cross\.)", ".self_attn."),
    (r"\.o_proj\.", ".out_proj."),
)
_NAMES: Mapping[str, tuple[tuple[str, str], ...]] = {
    ENCODER_FILE: (
        (r"^model\.layers\.(\d+)\.attn\.cross\.", r"model.decoder.layers.\1.encoder_attn."),
        (r"^model\.layers\.\d+\.final_norm_layernorm\.", "model.encoder.layer_norm."),
        (r"^model\.layers\.", "model.encoder.layers."),
        (r"^encoder\.", "model.encoder."),
        *_COMMON,
    ),
    DECODER_FILE: (
        (r"^model\.layers\.\d+\.final_norm_layernorm\.", "model.decoder.layer_norm."),
        (r"^model\.layers\.", "model.decoder.layers."),
        (r"^decoder\.", "model.decoder."),
        (r"^lm_head\.", "proj_out."),
        *_COMMON,
    ),
}
"""graph -> (what its names of tensors have, what transformers' have), one after the other"""


def write_whisper_graphs(model_folder: Path, folder: Path) -> None:
    """Write both graphs, their data and settings into a folder; the whole model is in memory in float32."""
    import onnx

    build_dense(model_folder, folder)
    for file, names in _NAMES.items():
        stored = onnx.load(folder / file)
        rename(stored.graph, {tensor.name: _called(tensor.name, names) for tensor in stored.graph.initializer})
        _part_attentions(stored.graph)
        (folder / f"{file}.data").unlink()
        onnx.save(stored, folder / file, save_as_external_data=True, location=f"{file}.data", size_threshold=0)


def _called(name: str, names: tuple[tuple[str, str], ...]) -> str:
    for theirs, ours in names:
        name = re.sub(theirs, ours, name)
    return name


def _part_attentions(graph: Any) -> None:
    """Make each `Attention`, which multiplies its inputs itself, three products and a `MultiHeadAttention`."""
    from onnx import helper

    tensors, nodes = {tensor.name: tensor for tensor in graph.initializer}, []
    for node in graph.node:
        if node.op_type != "Attention":
            nodes.append(node)
            continue
        heads = next(entry.i for entry in node.attribute if entry.name == "num_heads")
        parts = {kind: f"{node.name}/{kind}" for kind in "qkv"}
        for place, (kind, value) in enumerate(parts.items()):
            nodes += _product(graph, node.input, place, (kind, value), tensors)
        options = {"name": node.name, "domain": node.domain, "num_heads": heads}
        nodes.append(helper.make_node("MultiHeadAttention", [*parts.values()], list(node.output), **options))
    del graph.node[:]
    graph.node.extend(nodes)


def _product(
    graph: Any, inputs: Sequence[str], place: int, part: tuple[str, str], tensors: Mapping[str, Any]
) -> Iterator[Any]:
    """Yield the nodes of one of the three products of an `Attention`; their tensors join the graph."""
    from onnx import helper, numpy_helper

    (taken, weight, bias), (kind, value) = inputs[:3], part
    name = f"{weight.removesuffix('.qkv_proj.weight')}.{kind}_proj"
    columns = numpy_helper.to_array(tensors[weight]).reshape(-1, 3, tensors[weight].dims[1] // 3)[:, place]
    own = numpy_helper.to_array(tensors[bias]).reshape(3, -1)[place] if bias else columns[:0]
    graph.initializer.append(numpy_helper.from_array(columns.copy(), product_name(name)))
    product = f"{value}/product" if own.any() else value  # keys have no bias: the builder stored zeros
    yield helper.make_node("MatMul", [taken, product_name(name)], [product], name=f"{value}/MatMul")
    if own.any():
        graph.initializer.append(numpy_helper.from_array(own.copy(), f"{name}.bias"))
        yield helper.make_node("Add", [product, f"{name}.bias"], [value], name=f"{value}/Add")
