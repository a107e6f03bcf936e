"""A dense graph with the weights of a plan in it: packed ones for ONNX Runtime's MatMulNBits and GatherBlockQuantized.

The operators are those of `com.microsoft` (docs/ContribOperators.md of ONNX Runtime): `bits` of 2, 4 or 8, a scale for
each block of a power of two of columns, 16 at least, values (code - 2^(bits-1)) * scale. Their bytes are those of our
own integers. Scales in 16 bits and dense weights in their stored type are cast where the graph begins, which ONNX
Runtime does once, as it loads the file. Products are computed in float32 (accuracy_level 0), or, where a level says so,
in integers from inputs that are rounded to 8 bits (accuracy_level 4).
Shape legend: N rows (out_features or vocabulary), K columns.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Any

from space.inventory import ModuleInfo
from space.level import Level
from workers.onnx_files.graph_files import product_name

DOMAIN = "com.microsoft"
_EXACT, _ROUNDED = 0, 4  # accuracy_level


def stored_names(module: ModuleInfo, level: Level) -> tuple[str, ...]:
    """Return the names of the tensors that hold a module in a graph."""
    parts = ("weight",) if level.is_dense else ("qweight", "scales")
    return tuple(f"{module.name}.{part}" for part in parts)


def is_read(graph: Any, module: ModuleInfo) -> bool:
    """Tell whether a dense graph uses a module's weight, under whatever name."""
    names = {module.parameter, *map(product_name, (module.name, *module.tied))}
    return any(not names.isdisjoint(node.input) for node in graph.node)


def use_levels(graph: Any, plan: Sequence[tuple[ModuleInfo, Level]]) -> list[str]:
    """Make a dense graph one of a plan, in place; return the names of the dense graph's tensors that stay.

    Args:
        graph: `onnx.GraphProto`; its tensors are taken out, the caller puts in those that it stores.
        plan: all modules with their levels.

    """
    surgery = _Surgery(graph)
    for module, level in plan:
        surgery.exchange(module, level)
    return surgery.finish()


@dataclass
class _Surgery:
    """Nodes that read a module's values are given others; `first` are new nodes, which need tensors only."""

    graph: Any
    first: list[Any] = field(default_factory=list)

    def exchange(self, module: ModuleInfo, level: Level) -> None:
        if level.is_dense:
            whole = self._float32(f"{module.name}.weight", module.weight.dtype)
            turned = self._node("Transpose", [whole], f"{whole}/transposed", perm=[1, 0])
        else:
            scales = self._float32(f"{module.name}.scales", "F16")
        for name in (module.name, *module.tied):
            is_lookup = name == module.name and module.kind == "embedding"
            values = module.parameter if is_lookup else product_name(name)
            for node in self._readers(module, values, is_lookup=is_lookup):
                if level.is_dense:
                    node.input[0 if is_lookup else 1] = whole if is_lookup else turned
                elif is_lookup:
                    self._look_up(node, module, level, scales)
                else:
                    self._multiply(node, module, level, scales)
        if level.is_dense:
            self._read_elsewhere(module.parameter, whole)

    def _read_elsewhere(self, parameter: str, whole: str) -> None:
        """Have nodes of other kinds, such as a convolution that cuts patches, read a dense weight as it is stored."""
        for node in self.graph.node:
            node.input[:] = [whole if name == parameter else name for name in node.input]

    def finish(self) -> list[str]:
        """Put new nodes before all others, and take out what nothing reads, and tensors; return those that are read."""
        read = {answer.name for answer in self.graph.output}
        nodes = []
        for node in reversed([*self.first, *self.graph.node]):
            if not read.isdisjoint(node.output):
                nodes.append(node)
                read.update(node.input)
                del node.metadata_props[:]  # an exporter's notes of the code that it followed, paths among them
        del self.graph.node[:]
        self.graph.node.extend(reversed(nodes))
        kept = [tensor.name for tensor in self.graph.initializer if tensor.name in read]
        del self.graph.initializer[:]
        del self.graph.value_info[:]  # hints of the dense graph
        return kept

    def _readers(self, module: ModuleInfo, values: str, *, is_lookup: bool) -> Iterator[Any]:
        """Yield the nodes that multiply by a module's values, or look them up: directly, or where a head is tied."""
        if not is_lookup:
            yield from [node for node in self.graph.node if node.op_type == "MatMul" and node.input[1] == values]
            return
        names = {values}
        for name in module.tied:
            tied = product_name(name)
            for node in self.graph.node:
                if node.op_type == "Transpose" and node.input[0] == tied:
                    names.add(node.output[0])
        yield from [node for node in self.graph.node if node.op_type == "Gather" and node.input[0] in names]

    def _multiply(self, node: Any, module: ModuleInfo, level: Level, scales: str) -> None:
        taken, given, name = node.input[0], node.output[0], node.name
        product = self._helper(
            "MatMulNBits",
            [taken, f"{module.name}.qweight", scales],
            given,
            name=f"{name}NBits",
            domain=DOMAIN,
            K=module.in_features,
            N=module.out_features,
            bits=level.bits,
            block_size=_block_size(module, level),
            accuracy_level=_ROUNDED if level.inputs else _EXACT,
        )
        node.CopyFrom(product)

    def _look_up(self, node: Any, module: ModuleInfo, level: Level, scales: str) -> None:
        assert level.bits is not None  # noqa: S101 (dense ones are looked up as they are)
        rows = [module.out_features, module.in_features * level.bits // 8]
        shape = f"{module.name}.qweight/shape"
        self.first.append(self._constant(shape, rows))
        flat = self._node("Reshape", [f"{module.name}.qweight", shape], f"{module.name}.qweight/rows")
        taken, given, name = node.input[1], node.output[0], node.name
        rows_of_tokens = self._helper(
            "GatherBlockQuantized",
            [flat, taken, scales],
            given,
            name=f"{name}BlockQuantized",
            domain=DOMAIN,
            bits=level.bits,
            block_size=_block_size(module, level),
            gather_axis=0,
            quantize_axis=1,
        )
        node.CopyFrom(rows_of_tokens)

    def _float32(self, name: str, dtype: str) -> str:
        """Return the name of a tensor's values in float32."""
        return name if dtype == "F32" else self._node("Cast", [name], f"{name}/float32", to=1)

    def _node(self, kind: str, inputs: list[str], output: str, **attributes: Any) -> str:
        self.first.append(self._helper(kind, inputs, output, name=f"/{output}", **attributes))
        return output

    @staticmethod
    def _helper(kind: str, inputs: list[str], output: str, **attributes: Any) -> Any:
        from onnx import helper

        return helper.make_node(kind, inputs, [output], **attributes)

    @staticmethod
    def _constant(output: str, values: list[int]) -> Any:
        from onnx import TensorProto, helper

        value = helper.make_tensor(output, TensorProto.INT64, [len(values)], values)
        return helper.make_node("Constant", [], [output], name=f"/{output}", value=value)


def _block_size(module: ModuleInfo, level: Level) -> int:
    """Return how many columns share a scale."""
    return level.group_size or module.in_features
