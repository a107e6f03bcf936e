"""Our own container: every level, each value in as many bits as it has.

It stores one module as

    qweight       uint8 (out, ceil(kept * bits / 8))   the kept values of a row, one little-endian bit stream per row
    scale         float16 (out, groups)                one per `group_size` columns
    mask          uint8 (out, ceil(in / 8))            unstructured: one bit per column
                  uint8 (out, ceil(in / 4 * 3 / 8))    2:4: one of six codes, three bits per four columns
    left, right   int8 (out, rank), int8 (rank, in)    low-rank correction
    factor_scale  float32 (rank,)

A rotated level stores the tensors of the rotated weight; the rotation follows from the number of columns. A coding that
stands alone stores what its layout says, and nothing beside.
"""

from functools import lru_cache

from space.codings.cache_coding import CACHE
from space.codings.coding_table import CODINGS
from space.codings.masks import PATTERNS
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level, kept_columns, num_groups
from space.targets.target import Target


@lru_cache(maxsize=2**14)  # blocks are alike, and there may be a hundred of them
def packed_layout(rows: int, columns: int, level: Level) -> tuple[TensorInfo, ...]:
    """Return the tensors of a (rows, columns) weight at a level that is not dense."""
    assert level.bits is not None  # noqa: S101 (dense levels are stored as they are)
    coding = CODINGS[level.coding]
    tensors = [*coding.layout(rows, kept_columns(level, columns), level.bits)]
    if coding.stands_alone:
        return tuple(tensors)
    tensors.append(TensorInfo("scale", (rows, num_groups(level, columns)), "F16"))
    if level.sparsity:
        tensors += PATTERNS[level.pattern].layout(rows, columns)
    if level.rank:
        tensors.append(TensorInfo("left", (rows, level.rank), "I8"))
        tensors.append(TensorInfo("right", (level.rank, columns), "I8"))
        tensors.append(TensorInfo("factor_scale", (level.rank,), "F32"))
    return tuple(tensors)


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    columns = module.in_features
    if not CODINGS[level.coding].fits(module.out_features, columns):
        return False
    if module.kind == "embedding" and not level.is_plain:
        return False
    if level.group_size is not None and level.group_size > columns:
        return False
    if columns % PATTERNS[level.pattern].divides:
        return False
    return level.rank < min(module.out_features, columns)


PACKED = Target(
    name="packed",
    why_not=lambda level: "rounds no inputs" if level.rounded_inputs else None,
    is_legal=_is_legal,
    layout=lambda module, level: packed_layout(module.out_features, module.in_features, level),
    kinds=("integer", "rotated-trellis"),
    holds_experts_apart=True,
    cache_coding=CACHE.name,
    holds_caches_apart=True,
)
