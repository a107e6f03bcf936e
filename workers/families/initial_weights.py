"""Which weights a model's class looks at while it is loaded: formats without such tensors cannot be loaded then."""

from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from typing import Any

from torch import nn

_MISSING = "object has no attribute 'weight'"


def initialised_layers(model: Any) -> frozenset[str]:
    """Return the linear layers whose weight the model's class takes for itself when it initialises.

    transformers does so with whatever is loaded, and passes over values that are there (`initialize_weights` of its
    modeling_utils): where the tensor is none of the format's, an AttributeError ends the loading.

    Args:
        model: on the meta device; its weights have no values that could change.

    """
    names: dict[nn.Module, str] = {m: name for name, m in model.named_modules() if isinstance(m, nn.Linear)}
    found: set[nn.Module] = set()
    for module in model.modules():
        inner = [layer for layer in module.modules() if layer in names]
        if _fails_without(model, module, inner):
            found.update(layer for layer in inner if _fails_without(model, module, [layer]))
    return frozenset(names[layer] for layer in found)


def _fails_without(model: Any, module: nn.Module, layers: Iterable[nn.Module]) -> bool:
    with _without_weights(layers):
        try:
            model._init_weights(module)  # noqa: SLF001 (what transformers calls)
        except AttributeError as error:
            return str(error).endswith(_MISSING)
        except Exception:  # noqa: BLE001 (of a part that cannot be initialised alone, nothing is known)
            return False
    return False


@contextmanager
def _without_weights(layers: Iterable[nn.Module]) -> Iterator[None]:
    taken = {layer: layer.weight for layer in layers if hasattr(layer, "weight")}
    for layer in taken:
        del layer.weight
    try:
        yield
    finally:
        for layer, weight in taken.items():
            layer.weight = weight
