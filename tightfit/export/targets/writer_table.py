"""All writers by the name of their target."""

from tightfit.export.targets.compressed_tensors_writer import COMPRESSED_TENSORS_WRITER
from tightfit.export.targets.packed_writer import PACKED_WRITER
from tightfit.export.targets.writer import Writer

WRITERS: dict[str, Writer] = {"packed": PACKED_WRITER, "compressed-tensors": COMPRESSED_TENSORS_WRITER}
