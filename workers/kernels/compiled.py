"""Compiled loops for CPUs, by numba: imported when the first one is asked for, and never where none is."""

from collections.abc import Callable
from functools import cache, update_wrapper
from types import FunctionType
from typing import TypeVar

F = TypeVar("F", bound=Callable[..., object])


def compiled(function: F) -> F:
    """Return a function of numbers and numpy arrays as machine code, made at its first call and kept on disk.

    Others run beside it (it lets go of Python's lock). Sums may be taken in any order; not-a-number stays what it is.
    Functions of its file that it calls by their names are compiled with it. It must not hold compiled ones in any other
    way: what is kept on disk is found again by the variables around a function, and those are new in each process.
    """
    return _compiled(function)  # type: ignore[return-value]


@cache
def _compiled(function: Callable[..., object]) -> Callable[..., object]:
    import numba

    function = _calling_compiled(function)
    options = {"nogil": True, "fastmath": {"reassoc", "contract", "nsz", "arcp"}, "error_model": "numpy"}
    try:
        found: Callable[..., object] = numba.njit(cache=True, **options)(function)
    except RuntimeError:  # no folder to keep it in
        found = numba.njit(**options)(function)
    return found


def _calling_compiled(function: Callable[..., object]) -> Callable[..., object]:
    """Return the same function, whose calls of others in its file go to compiled ones."""
    code, known = function.__code__, function.__globals__
    called = {name: known[name] for name in code.co_names if isinstance(known.get(name), FunctionType)}
    near = {name: _compiled(f) for name, f in called.items() if f.__code__.co_filename == code.co_filename}
    same = FunctionType(code, {**known, **near}, function.__name__, function.__defaults__, function.__closure__)
    return update_wrapper(same, function) if near else function
