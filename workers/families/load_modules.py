"""Loading a model, safely: safetensors only, no remote code, no silent random weights, no NaN.

Weights stay in the checkpoint, memory-mapped, until a module is held (see workers/run/held_weights.py).
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from space.errors import ModelError
from space.site import Site
from workers.devices import compute_dtype
from workers.families.architecture import build_model
from workers.families.computed_parameters import computed_parameter
from workers.families.stored_names import converted, stored_names
from workers.models.mapped_checkpoint import Checkpoint
from workers.models.ties import check_ties, tied_names, tied_parameters


class StoredModel:
    """The stored tensors of a model as its parameters.

    Attributes:
        model: what they are the parameters of.

    """

    def __init__(self, folder: Path, model: Any) -> None:
        """Map the checkpoint."""
        self.model, self._folder, self._checkpoint = model, folder, Checkpoint(folder)
        check_ties(folder, tied_names(model), self._checkpoint.stored)
        shapes = {name: tensor.info.shape for name, tensor in self._checkpoint.stored.items()}
        self._origins = stored_names(folder, model, shapes).origins

    def __contains__(self, name: str) -> bool:
        """Tell whether a parameter or buffer is stored."""
        return name in self._origins

    def is_mapped(self, name: str) -> bool:
        """Tell whether a parameter is one stored tensor as it lies in its file."""
        return self._origins[name].converter is None

    def stored_name(self, name: str) -> str | None:
        """Return the name of the one stored tensor that a parameter is, None where it is made of others."""
        return self._origins[name].sources[0] if self.is_mapped(name) else None

    def expert(self, site: Site) -> Tensor:
        """Return one matrix of a stack, as it stands in the parameter; other experts' tensors are not read."""
        assert site.expert is not None  # noqa: S101 (asked for where it is)
        origin = self._origins[site.parameter]
        if site.sources == origin.sources:  # all experts are stored together
            return self.tensor(site.parameter)[site.expert]
        patterns = dict(zip(origin.sources, origin.patterns, strict=True))
        own = replace(origin, sources=site.sources, patterns=tuple(patterns[name] for name in site.sources))
        return converted(self.model, site.parameter, own, self._checkpoint.tensor)[0]

    def tensor(self, name: str) -> Tensor:
        """Return a parameter in the type that it is stored in; a view of its file where it is mapped."""
        return converted(self.model, name, self._origins[name], self._checkpoint.tensor)


def load_model(folder: Path, device: str = "cpu") -> Any:
    """Return the dense model in evaluation mode; see `load_mapped`."""
    return load_mapped(folder, device, ()).model


def load_mapped(folder: Path, device: str, mapped: Collection[str]) -> StoredModel:
    """Return a dense model in evaluation mode, some of its parameters left where they are stored.

    Args:
        folder: the checkpoint.
        device: where its parameters are put.
        mapped: names of parameters that stay in the checkpoint, in its own type, or without memory where they are made
            of several tensors; all others are copied to the device in the type that is computed in.

    Raises:
        ModelError: transformers cannot build it, or a weight is missing, of another shape, or not finite, or two that
            are tied differ.

    """
    model, _ = build_model(folder, _weightless(), dtype=compute_dtype(device))
    stored = StoredModel(folder, model)
    owners = tied_parameters(model)
    for first, parameter in list(model.named_parameters()):
        name = owners.get(first, first)
        if name not in stored:
            value = computed_parameter(model, name)
            if value is None:
                raise ModelError(f"{folder}: the weights lack {name}, which config.json asks for.")
            _replace(model, parameter, dense_copy(folder, name, value, device))
            continue
        if name in mapped and not stored.is_mapped(name):
            continue
        found = stored.tensor(name)
        if found.shape != parameter.shape:
            shapes = f"{tuple(found.shape)}, but config.json asks for {tuple(parameter.shape)}"
            raise ModelError(f"{folder}: {name} is stored as {shapes}.")
        _replace(model, parameter, found if name in mapped else dense_copy(folder, name, found, device))
    persistent = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in stored and name in persistent:
            buffer.copy_(stored.tensor(name))
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    model.eval()
    return stored


def dense_copy(folder: Path, name: str, stored: Tensor, device: str) -> Tensor:
    """Return a stored weight in the type that is computed in.

    Raises:
        ModelError: it is not finite.

    """
    found = stored.to(device, compute_dtype(device), copy=True)
    if not torch.isfinite(found).all():
        raise ModelError(f"{folder}: {name} holds NaN or infinite values. The checkpoint is broken; fetch it anew.")
    return found


@contextmanager
def _weightless() -> Iterator[None]:
    """Let modules be made without memory for their parameters; buffers are made for real."""
    register = nn.Module.register_parameter

    def on_meta(module: nn.Module, name: str, parameter: nn.Parameter | None) -> None:
        empty = None if parameter is None else nn.Parameter(parameter.detach().to("meta"), requires_grad=False)
        register(module, name, empty)

    nn.Module.register_parameter = on_meta  # type: ignore[method-assign, assignment]
    try:
        yield
    finally:
        nn.Module.register_parameter = register  # type: ignore[method-assign]


def _replace(model: nn.Module, old: nn.Parameter, value: Tensor) -> None:
    """Put a value in place of a parameter, wherever the model uses it."""
    new = nn.Parameter(value, requires_grad=False)
    for module in model.modules():
        for name, parameter in module._parameters.items():  # noqa: SLF001 (torch has no other way that keeps ties)
            if parameter is old:
                module._parameters[name] = new  # noqa: SLF001
