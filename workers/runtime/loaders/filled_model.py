"""The searched model in transformers, its weights replaced by those that an export's files hold."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.inventory import ModuleInfo
from workers.devices import Device, compute_dtype
from workers.families.read_inventory import inspect_model

Read = Callable[[ModuleInfo], Tensor]
"""module -> its (O, I) weight out of the files; raises KeyError with the name of a tensor that is not there"""


def filled_model(source: Path, device: Device, loader: str, read: Read) -> tuple[Any, dict[str, list[str]]]:
    """Return the model with the weights that files hold, and missing and mismatched keys.

    Norms and biases are the searched model's; whoever runs the files as they are is held against both.
    """
    import transformers

    model = getattr(transformers, loader).from_pretrained(
        source, dtype=compute_dtype(device), use_safetensors=True, trust_remote_code=False, local_files_only=True
    )
    parameters = dict(model.named_parameters(remove_duplicate=False))
    problems: dict[str, list[str]] = {}
    with torch.no_grad():
        for module in inspect_model(source).modules:
            try:
                values = read(module)
            except KeyError as error:
                problems.setdefault("missing_keys", []).append(str(error.args[0]))
                continue
            if values.shape == parameters[module.parameter].shape:
                parameters[module.parameter].copy_(values)
            else:
                problems.setdefault("mismatched_keys", []).append(module.name)
    return model.eval().to(device), problems
