"""A model with a plan's weights as ONNX files: the dense graph is made, changed, and written again with its tensors."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from space.inventory import ModuleInfo, TensorInfo
from space.level import Level
from workers.onnx_files.graph_files import COMPUTED, SETTINGS_FILE, SOUND_FILE, data_file, graphs_in
from workers.onnx_files.onnx_architectures import graph_of
from workers.onnx_files.onnx_tensors import OnnxTensor, read_tensors, write_tensors
from workers.onnx_files.packed_graph import is_read, stored_names, use_levels


def write_onnx(
    model_folder: Path, folder: Path, plan: Sequence[tuple[ModuleInfo, Level]], tensors: Sequence[OnnxTensor]
) -> int:
    """Write the graphs, their data and settings of onnxruntime-genai; return the bytes of the model's tensors.

    What no checkpoint stores, such as tables of the rotary embedding, counts as the graph's, as its nodes do.

    Args:
        model_folder: the dense model.
        folder: to write into.
        plan: all modules with their levels.
        tensors: those that hold them.

    """
    with TemporaryDirectory(prefix="dense-", dir=folder) as place:
        dense, stored = Path(place), list[TensorInfo]()
        graph_of(model_folder).write(model_folder, dense)
        for graph in graphs_in(dense):
            stored += _write_graph(graph, folder / graph.name, plan, tensors)
        for name in (SETTINGS_FILE, SOUND_FILE):
            if (dense / name).exists():
                (dense / name).replace(folder / name)
    return sum(info.size_bytes for info in stored if not info.name.startswith(COMPUTED))


def _write_graph(
    dense: Path, out: Path, plan: Sequence[tuple[ModuleInfo, Level]], tensors: Sequence[OnnxTensor]
) -> list[TensorInfo]:
    """Write a graph with the modules that it reads; return the tensors that are in its data."""
    import onnx

    model = onnx.load(dense, load_external_data=False)
    own = [(module, level) for module, level in plan if is_read(model.graph, module)]
    names = {name for module, level in own for name in stored_names(module, level)}
    found = [tensor for tensor in tensors if tensor.info.name in names]
    kept = set(use_levels(model.graph, own)) - names
    found += [tensor for tensor in read_tensors(dense) if tensor.info.name in kept]
    model.graph.initializer.extend(write_tensors(data_file(out), found))
    onnx.save(model, out)
    return [tensor.info for tensor in found]
