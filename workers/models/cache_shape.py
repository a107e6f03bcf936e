"""What a model remembers of a sequence, by layer: read off a cache that the model itself fills, without weights."""

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor

from space.inventory import CacheLayer

_LENGTHS = 2, 3  # tokens of two forwards: what grows between them is kept of each token


def cache_layers(model: Any) -> tuple[CacheLayer, ...] | None:
    """Return what each layer keeps, in the type of the config; None where the model does not hand its cache out.

    Args:
        model: on the meta device.

    """
    try:
        short, long = (_filled(model, length) for length in _LENGTHS)
    except Exception:  # noqa: BLE001 (code that looks at values cannot run on the meta device)
        return None
    return None if not short or len(short) != len(long) else tuple(map(_layer, short, long))


@torch.no_grad()
def _filled(model: Any, length: int) -> list[Any]:
    """Return the layers of the cache after a forward of so many tokens."""
    output = model(input_ids=torch.zeros((1, length), dtype=torch.long, device="meta"), use_cache=True)
    return list(getattr(getattr(output, "past_key_values", None), "layers", ()))


def _layer(short: Any, long: Any) -> CacheLayer:
    before, after = (sum(t.nbytes for t in _tensors(vars(layer)) if t.dim()) for layer in (short, long))
    per_token = (after - before) // (_LENGTHS[1] - _LENGTHS[0])
    window = getattr(long, "sliding_window", None)
    return CacheLayer(per_token, window if isinstance(window, int) else None, before - per_token * _LENGTHS[0])


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
