"""All writers by the name of their target."""

from tightfit.export.targets.compressed_tensors_writer import COMPRESSED_TENSORS_WRITER
from tightfit.export.targets.exl3_writer import EXL3_WRITER
from tightfit.export.targets.gguf_writer import GGUF_WRITER
from tightfit.export.targets.onnx_writer import ONNX_WRITER
from tightfit.export.targets.packed_writer import PACKED_WRITER
from tightfit.export.targets.writer import TargetWriter

WRITERS: dict[str, TargetWriter] = {
    "packed": PACKED_WRITER,
    "compressed-tensors": COMPRESSED_TENSORS_WRITER,
    "gguf": GGUF_WRITER,
    "onnx": ONNX_WRITER,
    "exl3": EXL3_WRITER,
}
