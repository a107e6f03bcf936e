"""Loading a model, safely: safetensors only, no remote code, no silent random weights, no NaN.

Weights stay in the checkpoint, memory-mapped, until a module is held (see workers/run/held_weights.py).
"""

from collections.abc import Collection, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from space.errors import ModelError
from workers.devices import compute_dtype
from workers.families.architecture import build_model
from workers.models.mapped_checkpoint import Checkpoint
from workers.models.ties import check_ties, tied_names


def load_model(folder: Path, device: str = "cpu", mapped: Collection[str] = ()) -> Any:
    """Return the dense model in evaluation mode.

    Args:
        folder: the checkpoint.
        device: where its parameters are put.
        mapped: names of parameters that stay in the checkpoint, in its own type; all others are copied to the device
            in the type that is computed in.

    Raises:
        ModelError: transformers cannot build it, or a weight is missing, of another shape, or not finite, or two that
            are tied differ.

    """
    model, _ = build_model(folder, _weightless(), dtype=compute_dtype(device))
    checkpoint = Checkpoint(folder)
    check_ties(folder, tied_names(model), checkpoint.stored)
    for name, parameter in list(model.named_parameters()):
        if name not in checkpoint:
            raise ModelError(f"{folder}: the weights lack {name}, which config.json asks for.")
        found = checkpoint.tensor(name)
        if found.shape != parameter.shape:
            shapes = f"{tuple(found.shape)}, but config.json asks for {tuple(parameter.shape)}"
            raise ModelError(f"{folder}: {name} is stored as {shapes}.")
        _replace(model, parameter, found if name in mapped else dense_copy(folder, name, found, device))
    persistent = model.state_dict().keys()
    for name, buffer in model.named_buffers():
        if name in checkpoint and name in persistent:
            buffer.copy_(checkpoint.tensor(name))
    for module in model.modules():
        for name, buffer in module.named_buffers(recurse=False):
            setattr(module, name, buffer.to(device))
    return model.eval()


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
