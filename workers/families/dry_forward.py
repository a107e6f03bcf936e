"""What a model does with its modules and what it remembers, seen in forwards on the meta device: no weight is read."""

import re
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn

from space.errors import ModelError
from space.inventory import CacheLayer
from workers.families.family import Seen
from workers.families.plain_attention import Attentions

_CHUNKS = 256  # tokens, a multiple of what models cut sequences into
_SIZES = re.compile(
    r"size of tensor|cannot be multiplied|invalid for input of size|broadcast|must match|split_sizes|k out of range"
)
"""in what torch says of shapes that do not fit"""
_LENGTHS = 2, 3  # tokens of two forwards: what grows between them is kept of each token


def _tokens(length: int) -> dict[str, Any]:
    return {"input_ids": torch.zeros((1, length), dtype=torch.long, device="meta")}


def dry_forward(model: Any, *, has_cache: bool = True, inputs: Callable[[int], dict[str, Any]] = _tokens) -> Seen:
    """Return what a model on the meta device shows; nothing where its code must see values to go on.

    Args:
        model: on the meta device.
        has_cache: whether it is asked for one.
        inputs: number of tokens -> arguments of its forward.

    Raises:
        ModelError: the sizes of its modules do not fit together.

    """
    names = {module: name for name, module in model.named_modules() if isinstance(module, nn.Linear | nn.Embedding)}
    called: set[nn.Module] = set()
    hooks = [module.register_forward_pre_hook(lambda m, _: called.add(m)) for module in names]
    attention = Attentions(model)
    try:
        with _weights_taken() as taken:
            short, long = (_filled(model, inputs(length), has_cache=has_cache) for length in _LENGTHS)
    except Exception as error:  # noqa: BLE001 (whatever code raises that cannot run without values)
        _check_sizes(model, error, inputs, has_cache=has_cache)
        return Seen()
    finally:
        for hook in hooks:
            hook.remove()
        attention.forget()
    bypassed = frozenset(names[module] for module in taken if module in names and module not in called)
    unused = frozenset(name for module, name in names.items() if module not in called and module not in taken)
    is_told = short and len(short) == len(long)
    cache = tuple(map(_layer, short, long)) if is_told else None
    return Seen(cache and attention.named(cache, long), bypassed, unused)


def _check_sizes(model: Any, error: Exception, inputs: Callable[[int], dict[str, Any]], *, has_cache: bool) -> None:
    """Refuse a model whose forward ends at sizes that do not fit, of few tokens and of many: some want whole chunks."""
    if not _SIZES.search(str(error)):
        return
    try:
        _filled(model, inputs(_CHUNKS), has_cache=has_cache)
    except Exception as again:
        if _SIZES.search(str(again)):
            reason = str(again).splitlines()[0]
            raise ModelError(
                f"the sizes in config.json do not fit together, so that transformers cannot run the model: {reason}"
            ) from again


@contextmanager
def _weights_taken() -> Iterator[set[nn.Module]]:
    """Yield the modules whose weight is asked for while the context lasts, by themselves or by others."""
    look_up, taken = nn.Module.__getattr__, set[nn.Module]()

    def watched(module: nn.Module, name: str) -> Any:
        if name == "weight":
            taken.add(module)
        return look_up(module, name)

    nn.Module.__getattr__ = watched  # type: ignore[method-assign]
    try:
        yield taken
    finally:
        nn.Module.__getattr__ = look_up  # type: ignore[method-assign]


@torch.no_grad()
def _filled(model: Any, inputs: dict[str, Any], *, has_cache: bool) -> list[Any]:
    """Return the layers of the cache after a forward."""
    options = {"use_cache": True} if has_cache else {}
    output = model(**inputs, **options)
    return list(getattr(getattr(output, "past_key_values", None), "layers", ()))


def _layer(short: Any, long: Any) -> CacheLayer:
    held = [t for t in _tensors(vars(short)) if t.dim()]
    before, after = (sum(t.nbytes for t in _tensors(vars(layer)) if t.dim()) for layer in (short, long))
    per_token = (after - before) // (_LENGTHS[1] - _LENGTHS[0])
    window = getattr(long, "sliding_window", None)
    fixed, value_bytes = before - per_token * _LENGTHS[0], max((t.element_size() for t in held), default=2)
    return CacheLayer(per_token, window if isinstance(window, int) else None, fixed, value_bytes)


def _tensors(value: Any) -> Iterator[Tensor]:
    if isinstance(value, Tensor):
        yield value
    elif isinstance(value, dict):
        for inner in value.values():
            yield from _tensors(inner)
    elif isinstance(value, list | tuple):
        for inner in value:
            yield from _tensors(inner)
