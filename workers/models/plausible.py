"""What a config asks for, held against what the weight files hold, before anything as large as it says is made."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from torch import nn

from space.errors import ModelError
from workers.models.headers import StoredTensor

_COUNTED = ("layer", "head", "expert", "label")  # in names of numbers that so many Python objects are made of
_ALWAYS_PLAUSIBLE = 2**16
_MAX_NUMBER = 2**63
_FEW_PARAMETERS = 64


def check_numbers(folder: Path, config: Any, stored: Mapping[str, StoredTensor]) -> None:
    """Refuse a config with a number that no program can hold, or a count far above all that is stored.

    Raises:
        ModelError: names the number.

    """
    largest = max((size for tensor in stored.values() for size in tensor.info.shape), default=0)
    limit = max(_ALWAYS_PLAUSIBLE, largest, len(stored))
    for name, value in _whole_numbers(config):
        is_count = any(word in name for word in _COUNTED)
        if abs(value) >= _MAX_NUMBER or (is_count and value > limit):
            raise ModelError(
                f"{folder}: config.json gives {name} as {value:.4g}, and nothing in the weight files is so large. "
                "Download it again."
            )


def _whole_numbers(value: Any, name: str = "") -> Iterator[tuple[str, int]]:
    if isinstance(value, dict | list):
        for key, inner in value.items() if isinstance(value, dict) else ((name, inner) for inner in value):
            yield from _whole_numbers(inner, key)
    elif isinstance(value, int):
        yield name, value


@contextmanager
def no_more_parameters_than(stored: Mapping[str, StoredTensor]) -> Iterator[None]:
    """Stop the making of a model that wants far more parameters than are stored: each of them must be, or be tied.

    Raises:
        ModelError: it does.

    """
    register, left = nn.Module.register_parameter, 2 * len(stored) + _FEW_PARAMETERS

    def counting(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        nonlocal left
        left -= parameter is not None
        if left < 0:
            raise ModelError(f"config.json asks for more than twice the {len(stored)} tensors that the files hold.")
        register(module, name, parameter)

    nn.Module.register_parameter = counting  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]
