"""A model with a plan's weights as ONNX files: the dense graph is made, changed, and written again with its tensors."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from space.inventory import ModuleInfo
from space.level import Level
from workers.onnx_files.dense_graph import GRAPH_FILE, SETTINGS_FILE, write_dense_graph
from workers.onnx_files.onnx_tensors import DATA_FILE, OnnxTensor, read_tensors, write_tensors
from workers.onnx_files.packed_graph import use_levels

_ROTARY_TABLES = ("cos_cache", "sin_cache")


def is_rotary_table(name: str) -> bool:
    """Tell whether a graph's tensor is a table of the rotary embedding, which no checkpoint stores."""
    return name.startswith(_ROTARY_TABLES)


def write_onnx(
    model_folder: Path, folder: Path, plan: Sequence[tuple[ModuleInfo, Level]], tensors: Sequence[OnnxTensor]
) -> int:
    """Write the graph, its data and the settings of onnxruntime-genai; return the bytes of the model's tensors.

    Tables of the rotary embedding count as the graph's, as its nodes do: they are computed from the config.

    Args:
        model_folder: the dense model.
        folder: to write into.
        plan: all modules with their levels.
        tensors: those that hold them.

    """
    import onnx

    with TemporaryDirectory(prefix="dense-", dir=folder) as place:
        dense = Path(place)
        write_dense_graph(model_folder, dense)
        model = onnx.load(dense / GRAPH_FILE, load_external_data=False)
        kept = set(use_levels(model.graph, plan))
        others = [tensor for tensor in read_tensors(dense / GRAPH_FILE) if tensor.info.name in kept]
        model.graph.initializer.extend(write_tensors(folder / DATA_FILE, [*tensors, *others]))
        onnx.save(model, folder / GRAPH_FILE)
        (dense / SETTINGS_FILE).replace(folder / SETTINGS_FILE)
    counted = (tensor.info for tensor in (*tensors, *others) if not is_rotary_table(tensor.info.name))
    return sum(info.size_bytes for info in counted)
