"""What every target tells of itself: which levels its files hold, and which tensors they are."""

from collections.abc import Callable
from dataclasses import dataclass

from space.inventory import ModuleInfo, TensorInfo
from space.level import Level


@dataclass(frozen=True, slots=True)
class Target:
    """One container of compressed weights, and the runtime that loads it.

    Attributes:
        name: as users write it.
        why_not: level -> why no module can be stored at it, as the rest of a sentence that begins with the name; None
            where it can.
        is_legal: (module, level) -> whether that module can be stored at a level that some can.
        layout: (module, level) -> the tensors that hold a module at a level that is not dense, named within it.

    """

    name: str
    why_not: Callable[[Level], str | None]
    is_legal: Callable[[ModuleInfo, Level], bool]
    layout: Callable[[ModuleInfo, Level], tuple[TensorInfo, ...]]
