"""A small model of odd shapes, and how to make any level."""

from hypothesis import strategies as st

from space.codings.coding import BITS
from space.inventory import CacheLayer, Inventory, ModuleInfo, TensorInfo
from space.level import DENSE, Level
from space.menu import Menu, SearchSpace, build_space

EMBEDDING = "embed_tokens"
MODULES = ("layers.0.q_proj", "layers.0.down_proj", "layers.1.q_proj", "layers.1.down_proj")

axes = {
    "bits": st.sampled_from(BITS),
    "group_size": st.none() | st.integers(1, 4096),
    "rank": st.integers(0, 512),
    "coding": st.sampled_from(("integer", "trellis")),
    "rotated": st.booleans(),
}
unstructured = st.builds(Level, **axes, sparsity=st.integers(0, 9999).map(lambda share: share / 10_000))
semi_structured = st.builds(Level, **axes, sparsity=st.just(0.5), pattern=st.just("2:4"))
rounding = st.builds(Level, st.just(8), axes["group_size"], rank=axes["rank"], inputs=st.just("int8"))
levels = st.just(DENSE) | unstructured | semi_structured | rounding


def module(name: str, rows: int, columns: int, kind: str = "linear", block: int | None = None) -> ModuleInfo:
    """Return a module stored in bfloat16."""
    weight = TensorInfo(f"{name}.weight", (rows, columns), "BF16")
    return ModuleInfo(name, "embedding" if kind == "embedding" else "linear", weight, block)


def inventory(columns: int = 64) -> Inventory:
    """Return an embedding, two blocks of two linear modules, and norms that are left alone."""
    blocks = [module(name, 32, columns, block=int(name.split(".")[1])) for name in MODULES]
    modules = [module(EMBEDDING, 50, columns, "embedding"), *blocks]
    others = (TensorInfo("norm.weight", (columns,), "F32"), TensorInfo("head.bias", (7,), "BF16"))
    return Inventory(tuple(modules), others, (CacheLayer(2 * 2 * 16 * 2),), 2)


def space(menu: Menu | None = None, pins: tuple[tuple[str, Level], ...] = ()) -> SearchSpace:
    """Return the packed search space of the small model."""
    return build_space(inventory(), menu or Menu(), "packed", pins)
