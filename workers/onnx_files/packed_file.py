"""A model with a plan's weights as ONNX files: the dense graph is made, changed, and written again with its tensors."""

from collections.abc import Sequence
from pathlib import Path
from tempfile import TemporaryDirectory

from space.inventory import ModuleInfo
from space.level import Level
from workers.onnx_files.graph_files import COMPUTED, GRAPH_FILE, SETTINGS_FILE
from workers.onnx_files.onnx_architectures import graph_of
from workers.onnx_files.onnx_tensors import DATA_FILE, OnnxTensor, read_tensors, write_tensors
from workers.onnx_files.packed_graph import use_levels


def write_onnx(
    model_folder: Path, folder: Path, plan: Sequence[tuple[ModuleInfo, Level]], tensors: Sequence[OnnxTensor]
) -> int:
    """Write the graph, its data and a decoder's settings of onnxruntime-genai; return the bytes of the model's tensors.

    What no checkpoint stores, such as tables of the rotary embedding, counts as the graph's, as its nodes do.

    Args:
        model_folder: the dense model.
        folder: to write into.
        plan: all modules with their levels.
        tensors: those that hold them.

    """
    import onnx

    with TemporaryDirectory(prefix="dense-", dir=folder) as place:
        dense = Path(place)
        graph_of(model_folder).write(model_folder, dense)
        model = onnx.load(dense / GRAPH_FILE, load_external_data=False)
        kept = set(use_levels(model.graph, plan))
        kept -= {tensor.info.name for tensor in tensors}
        others = [tensor for tensor in read_tensors(dense / GRAPH_FILE) if tensor.info.name in kept]
        model.graph.initializer.extend(write_tensors(folder / DATA_FILE, [*tensors, *others]))
        onnx.save(model, folder / GRAPH_FILE)
        if (dense / SETTINGS_FILE).exists():
            (dense / SETTINGS_FILE).replace(folder / SETTINGS_FILE)
    counted = (tensor.info for tensor in (*tensors, *others) if not tensor.info.name.startswith(COMPUTED))
    return sum(info.size_bytes for info in counted)
