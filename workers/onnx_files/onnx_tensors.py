"""Tensors of an ONNX graph, whose bytes lie in a file beside it: written one after the other, read one by one."""

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from types import MappingProxyType
from typing import Any

from space.inventory import ITEM_BYTES, TensorInfo

TYPES: Mapping[str, str] = MappingProxyType(
    {"F32": "FLOAT", "F16": "FLOAT16", "BF16": "BFLOAT16", "U8": "UINT8", "I64": "INT64"}
)
"""safetensors' name -> ONNX's"""
_ALIGNMENT = 64


@dataclass(frozen=True, slots=True)
class OnnxTensor:
    """One tensor: its name, shape and type, and what gives its bytes."""

    info: TensorInfo
    load: Callable[[], bytes]


def write_tensors(path: Path, tensors: Iterable[OnnxTensor]) -> list[Any]:
    """Write the bytes of tensors into a file; return the `onnx.TensorProto` that say where each lies."""
    import onnx

    protos = []
    with path.open("wb") as out:
        for tensor in tensors:
            out.write(b"\0" * (-out.tell() % _ALIGNMENT))
            at, data = out.tell(), tensor.load()
            assert len(data) == tensor.info.size_bytes, tensor.info.name  # noqa: S101 (our own arithmetic)
            out.write(data)
            proto = onnx.TensorProto(
                name=tensor.info.name,
                data_type=onnx.TensorProto.DataType.Value(TYPES[tensor.info.dtype]),
                dims=tensor.info.shape,
                data_location=onnx.TensorProto.EXTERNAL,
            )
            for key, value in (("location", path.name), ("offset", at), ("length", len(data))):
                proto.external_data.add(key=key, value=str(value))
            protos.append(proto)
    return protos


def read_tensors(graph_path: Path) -> Iterator[OnnxTensor]:
    """Yield the tensors of a graph, those in it and those in a file beside it.

    Raises:
        ValueError: a tensor has a type that is not written here, or is not whole.

    """
    import onnx

    names = {onnx.TensorProto.DataType.Value(name): dtype for dtype, name in TYPES.items()}
    for proto in onnx.load(graph_path, load_external_data=False).graph.initializer:
        info = TensorInfo(proto.name, tuple(proto.dims), names.get(proto.data_type, ""))
        place = {entry.key: entry.value for entry in proto.external_data}
        length = int(place.get("length", len(proto.raw_data)))
        if info.dtype not in ITEM_BYTES or length != info.size_bytes:
            raise ValueError(f"{graph_path}: {proto.name} is not a whole tensor")
        if not place:
            yield OnnxTensor(info, partial(bytes, proto.raw_data))
            continue
        data = graph_path.with_name(Path(place["location"]).name)
        yield OnnxTensor(info, partial(_range, data, int(place.get("offset", 0)), length))


def _range(path: Path, start: int, size: int) -> bytes:
    with path.open("rb") as data:
        data.seek(start)
        return data.read(size)
