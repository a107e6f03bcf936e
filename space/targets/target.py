"""What every target tells of itself: which levels its files hold, and which tensors they are."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from space.codings.coding_table import CODINGS
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import Level
from space.targets.site_groups import Groups, no_groups


def _as_it_is(tensor: TensorInfo) -> TensorInfo:
    return tensor


@dataclass(frozen=True, slots=True)
class Target:
    """One container of compressed weights, and the runtime that loads it.

    Attributes:
        name: as users write it.
        why_not: level -> why no module can be stored at it, as the rest of a sentence that begins with the name; None
            where it can.
        is_legal: (module, level) -> whether that module can be stored at a level that some can.
        layout: (module, level) -> the tensors that hold a module at a level that is not dense, named within it.
        groups: a model -> its modules that must share one level, since the runtime fuses them or stores them as one.
        other: a stored tensor that is left alone -> as the files have it.
        kinds: what a menu has where a request names none, or nothing that the files hold; the first of a bit-width is
            what uniform plans are made of.
        generations: hardware that its runtime has kernels of its own for -> whether one multiplies weights at a level
            that is not dense; empty: all hardware runs what files hold.
        holds_experts_apart: experts of one stack may have different levels.
        cache_value_bytes: of a value of the key/value cache, where the runtime has a type of its own for it.
        cache_coding: what its runtime can be told to remember keys and values in, beside its own type; empty: nothing.
        holds_caches_apart: a plan tells it so of each layer's keys and of its values; else one option tells it of all.
        packages: what Python must be able to import for it; all of them are in the extra of its name.

    """

    name: str
    why_not: Callable[[Level], str | None]
    is_legal: Callable[[ModuleInfo, Level], bool]
    layout: Callable[[ModuleInfo, Level], tuple[TensorInfo, ...]]
    groups: Callable[[Inventory], Groups] = no_groups
    other: Callable[[TensorInfo], TensorInfo] = _as_it_is
    kinds: tuple[str, ...] = ("integer",)
    cache_value_bytes: int | None = None
    cache_coding: str = ""
    holds_caches_apart: bool = False
    packages: tuple[str, ...] = ()
    generations: Mapping[str, Callable[[Level], bool]] = field(default_factory=dict)
    holds_experts_apart: bool = False

    @property
    def cache_bits(self) -> tuple[int, ...]:
        """Return the bits of keys and values that its runtime can be told."""
        return CODINGS[self.cache_coding].bits if self.cache_coding else ()
