"""Whether stored tensors and the model that a config describes are the same: none is missing, none is left over."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.errors import ModelError
from workers.families.computed_parameters import computed_parameter
from workers.families.stored_names import StoredNames
from workers.models.headers import StoredTensor
from workers.models.ties import tied_parameters

_LEFTOVERS = r"(^|\.)inv_freq$|(^|\.)position_ids$|(attn|attention)\.masked_bias$"
"""what older libraries stored of a model beside its weights: it follows from the config"""
_OLD_MASK = r"(attn|attention)\.bias$"  # the same, if it has the four dimensions of a mask


@dataclass(frozen=True, slots=True)
class Unknown:
    """Stored tensors that no parameter is made of: what follows from the config, and what the class does without."""

    dropped: frozenset[str]
    left_out: frozenset[str]


def check_complete(folder: Path, model: Any, stored: Mapping[str, StoredTensor], names: StoredNames) -> Unknown:
    """Refuse a checkpoint that is not the model of its config; return what it holds beside that.

    transformers would fill gaps with random weights, and drop what it does not know.

    Raises:
        ModelError: names the first tensor that is missing, of another shape or left over, and why.

    """
    ties, computed = tied_parameters(model), {name for name, _ in model.named_parameters()}
    for name, tensor in model.state_dict().items():
        found, asked = names.shapes.get(name), tuple(tensor.shape)
        if found is None:
            is_tied = ties.get(name) in names.origins
            if not is_tied and not _matches(model, "_keys_to_ignore_on_load_missing", name):
                raise ModelError(f"{folder}: {_why_missing(name, model, stored)}")
            if not is_tied and name in computed and computed_parameter(model, name) is None:
                raise ModelError(
                    f"{folder}: {name} is not stored, and transformers draws it at random: such a model gives another "
                    "answer each time that it is loaded. Store it with save_pretrained."
                )
        elif name not in ties and found != asked:
            raise ModelError(f"{folder}: {name} is stored as {found}, but config.json asks for {asked}.")
    buffers = {name for name, _ in model.named_buffers()}
    dropped = frozenset(name for name in names.unknown if name in buffers or _is_leftover(stored[name]))
    left_out = {name for name in names.unknown if _matches(model, "_keys_to_ignore_on_load_unexpected", name)}
    unknown = [name for name in names.unknown if name not in dropped and name not in left_out]
    if unknown:
        raise ModelError(
            f"{folder}: {unknown[0]} and {len(unknown) - 1} more stored tensors are no part of the "
            f"{type(model).__name__} that transformers makes of config.json, and would be lost in an export. "
            "If they are not needed, take them out of the weight files; otherwise the model is not supported yet."
        )
    return Unknown(dropped, frozenset(left_out - dropped))


def _is_leftover(tensor: StoredTensor) -> bool:
    name = tensor.info.name
    is_old_mask = len(tensor.info.shape) == 4 and re.search(_OLD_MASK, name) is not None  # noqa: PLR2004
    return is_old_mask or re.search(_LEFTOVERS, name) is not None


def _matches(model: Any, attribute: str, name: str) -> bool:
    """Tell whether a model's class itself says that it does without a tensor."""
    return any(re.search(pattern, name) for pattern in getattr(model, attribute, None) or ())


def _why_missing(name: str, model: Any, stored: Mapping[str, StoredTensor]) -> str:
    """Return one sentence about a tensor that is not stored under its name."""
    again = "load the model with transformers and write it again with save_pretrained"
    copies = [copy for copy, owner in tied_parameters(model).items() if owner == name and copy in stored]
    if copies:
        return f"it stores {name} as {copies[0]} only, which shares its weight; {again}."
    longer = next((other for other in stored if other.endswith(f".{name}")), None)
    if longer is not None:
        return (
            f"its weights have {longer.removesuffix(name)!r} before the names that transformers gives them, such as "
            f"{longer}; take it away in the weight files."
        )
    return f"the weights lack {name}, which config.json asks for."
