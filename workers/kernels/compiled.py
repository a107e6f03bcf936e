"""Compiled loops for CPUs, by numba: imported when the first one is asked for, and never where none is."""

from collections.abc import Callable
from functools import cache
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Return a function of numbers and numpy arrays as machine code, made at its first call and kept on disk.

    Others run beside it (it lets go of Python's lock). Sums may be taken in any order; not-a-number stays what it is.
    """
    return _compiled(function)  # type: ignore[return-value]


@cache
def _compiled(function: Callable[..., object]) -> Callable[..., object]:
    import numba

    options = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}
    try:
        found: Callable[..., object] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        found = numba.njit(**options)(function)
    return found
