"""The graph of a dense encoder, as torch's own exporter makes it, in float32; its linear layers and look-ups by name.

Tensors of the model keep the names of their parameters. A linear layer is a `MatMul` by the transposed weight, called
`MODULE.MatMul.weight` as in graphs of decoders, and its bias an `Add`; what else the exporter computed is called
`computed/...`, and is no tensor of the model.
"""

import inspect
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from space.inventory import Inventory
from workers.families.family import Family
from workers.families.family_table import FAMILIES
from workers.families.read_inventory import inspect_model
from workers.onnx_files.graph_files import COMPUTED, GRAPH_FILE, product_name, rename

_TEXT_INPUTS = ("input_ids", "attention_mask", "token_type_ids")
_BATCH, _LENGTH = 2, 9  # of the samples that the exporter follows
_PREFIX = "model."


def write_encoder_graph(model_folder: Path, folder: Path) -> None:
    """Write GRAPH_FILE and its data into a folder; the whole model is in memory in float32."""
    inventory = inspect_model(model_folder)
    family = FAMILIES[inventory.family]
    model = _load(model_folder, family)
    given = _samples(model, model_folder)
    with _quietly():
        outputs = tuple(model(**given).keys())
        axes = {name: dict.fromkeys(_free_axes(value), torch.export.Dim.DYNAMIC) for name, value in given.items()}
        made = torch.onnx.export(
            _Answering(model),
            (),
            kwargs={"inputs": given},
            input_names=[*given],
            output_names=[*outputs],
            dynamic_shapes={"inputs": axes},
            dynamo=True,
            optimize=False,
            verbose=False,
        )
        assert made is not None  # noqa: S101 (of an exporter that writes no file)
        made.save(folder / GRAPH_FILE, external_data=True)
    _name(folder / GRAPH_FILE, inventory, model)


class _Answering(nn.Module):
    """A model called with a dictionary of inputs; it answers with all tensors that it returns, in order."""

    def __init__(self, model: nn.Module) -> None:
        super().__init__()
        self.model = model

    def forward(self, inputs: Mapping[str, Tensor]) -> tuple[Tensor, ...]:
        answers: tuple[Tensor, ...] = self.model(**inputs).to_tuple()
        return answers


def _load(folder: Path, family: Family) -> Any:
    import transformers

    loaded = getattr(transformers, family.loader).from_pretrained(
        folder, dtype=torch.float32, use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    loaded.config.output_hidden_states = loaded.config.output_attentions = False  # whatever a training left there
    return loaded.eval()


def _samples(model: Any, folder: Path) -> dict[str, Tensor]:
    """Return what the model is called with: what its tokenizer gives, or images of the size that it was made for."""
    from transformers import AutoTokenizer

    if model.main_input_name == "pixel_values":
        height, width = _image_size(model.config)
        return {"pixel_values": torch.zeros(_BATCH, model.config.num_channels, height, width)}
    tokenizer = AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    taken = inspect.signature(model.forward).parameters
    names = [name for name in _TEXT_INPUTS if name in tokenizer.model_input_names and name in taken]
    start = {"input_ids": 3, "attention_mask": 1, "token_type_ids": 0}
    return {name: torch.full((_BATCH, _LENGTH), start[name], dtype=torch.long) for name in names}


def _image_size(config: Any) -> tuple[int, int]:
    size = config.image_size
    return (size, size) if isinstance(size, int) else tuple(size)


def _free_axes(value: Tensor) -> range:
    return range(1 if value.is_floating_point() else value.dim())


@contextmanager
def _quietly() -> Iterator[None]:
    """Keep what the exporter tells its own developers from users."""
    log = logging.getLogger("torch.onnx")
    level = log.level
    log.setLevel(logging.ERROR)
    with Path(os.devnull).open("w", encoding="utf-8") as nowhere, warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")
        with redirect_stdout(nowhere), redirect_stderr(nowhere):
            yield
    log.setLevel(level)


def _name(path: Path, inventory: Inventory, model: nn.Module) -> None:
    """Give tensors the names of parameters, and products by a module's weight that of the module."""
    import onnx

    stored = onnx.load(path, load_external_data=False)
    graph = stored.graph
    called = {name: name for name, _ in model.named_parameters(remove_duplicate=False)}
    called |= {f"{tied}.weight": module.parameter for module in inventory.modules for tied in module.tied}
    found = {tensor.name: tensor.name.removeprefix(_PREFIX) for tensor in graph.initializer}
    rename(graph, {name: called.get(inner, COMPUTED + inner) for name, inner in found.items()})
    products = {module.parameter: product_name((module.tied or (module.name,))[0]) for module in inventory.modules}
    _part_products(graph, products)
    turned = (node for node in graph.node if node.op_type == "Transpose" and node.input[0] in products)
    rename(graph, {node.output[0]: products[node.input[0]] for node in turned})
    onnx.save(stored, path)


def _part_products(graph: Any, products: Mapping[str, str]) -> None:
    """Make each `Gemm` of a module's weight a `MatMul` by its transposed weight, and an `Add`."""
    from onnx import helper

    nodes = []
    for node in graph.node:
        if node.op_type != "Gemm" or node.input[1] not in products:
            nodes.append(node)
            continue
        taken, weight, *bias = node.input
        (given,), name, turned = node.output, node.name, f"{node.name}/weight"
        product = f"{given}/product" if bias else given
        nodes.append(helper.make_node("Transpose", [weight], [turned], name=f"{name}/turned", perm=[1, 0]))
        nodes.append(helper.make_node("MatMul", [taken, turned], [product], name=name))
        if bias:
            nodes.append(helper.make_node("Add", [product, *bias], [given], name=f"{name}/bias"))
    del graph.node[:]
    graph.node.extend(nodes)
