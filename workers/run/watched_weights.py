"""Weights that tell what they are multiplied with, while a context lasts, and which sites these are."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager

from torch import nn

from space.inventory import ModuleInfo
from workers.kernels.followed_weight import Told, put_followed


class SitesOf:
    """Which sites a product with a watched parameter belongs to, where each expert of a stack may be one."""

    def __init__(self, watched: Sequence[ModuleInfo]) -> None:
        """Take the sites."""
        self._of: dict[str, dict[int | None, str]] = {}
        for module in watched:
            expert = None if module.site is None else module.site.expert
            self._of.setdefault(module.parameter, {})[expert] = module.name

    def places(self, modules: Mapping[str, nn.Module]) -> dict[str, tuple[nn.Module, str]]:
        """Return parameter -> (module, its name there)."""
        parts = {name: name.rpartition(".") for name in self._of}
        return {name: (modules[owner], last) for name, (owner, _, last) in parts.items()}

    def names(self, parameter: str, expert: int | None) -> tuple[str, ...]:
        """Return the site of a product; several, in the order of experts, where one product is of all experts apart."""
        of = self._of[parameter]
        if None in of:
            return (of[None],)
        return tuple(of.values()) if expert is None else (of[expert],)


@contextmanager
def watching(weights: Mapping[str, tuple[nn.Module, str]], told: Callable[[str], Told]) -> Iterator[None]:
    """Tell of every product of some weights while the context lasts.

    Args:
        weights: name -> (module, name of its parameter).
        told: name -> what hears of its products.

    """
    kept = {name: module.get_parameter(last) for name, (module, last) in weights.items()}
    for name, (module, last) in weights.items():
        put_followed(module, last, kept[name], told(name))
    try:
        yield
    finally:
        for name, (module, last) in weights.items():
            module._parameters[last] = kept[name]  # noqa: SLF001
