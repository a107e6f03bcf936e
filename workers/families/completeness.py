"""Whether stored tensors and the model that a config describes are the same: none is missing, none is left over."""

import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from space.errors import ModelError
from workers.models.headers import StoredTensor
from workers.models.ties import tied_parameters

_LEFTOVERS = r"(^|\.)inv_freq$|(^|\.)position_ids$|(attn|attention)\.masked_bias$"
"""what older libraries stored of a model beside its weights: it follows from the config"""
_OLD_MASK = r"(attn|attention)\.bias$"  # the same, if it has the four dimensions of a mask


def check_complete(folder: Path, model: Any, stored: Mapping[str, StoredTensor]) -> None:
    """Refuse a checkpoint that is not the model of its config.

    transformers would fill gaps with random weights, and drop what it does not know.

    Raises:
        ModelError: names the first tensor that is missing, of another shape or left over, and why.

    """
    ties = tied_parameters(model)
    wanted = dict(model.state_dict())
    for name, tensor in wanted.items():
        found = stored.get(name)
        if found is None:
            if ties.get(name) not in stored and not _matches(model, "_keys_to_ignore_on_load_missing", name):
                raise ModelError(f"{folder}: {_why_missing(name, model, stored)}")
        elif name not in ties and found.info.shape != tuple(tensor.shape):
            asked = tuple(tensor.shape)
            raise ModelError(f"{folder}: {name} is stored as {found.info.shape}, but config.json asks for {asked}.")
    known = {*wanted, *(name for name, _ in model.named_buffers())}
    unknown = [name for name, tensor in stored.items() if name not in known and not _is_ignorable(model, tensor)]
    if unknown:
        raise ModelError(
            f"{folder}: {unknown[0]} and {len(unknown) - 1} more stored tensors are no part of the "
            f"{type(model).__name__} that transformers makes of config.json, and would be lost in an export. "
            "If they are not needed, take them out of the weight files; otherwise the model is not supported yet."
        )


def _is_ignorable(model: Any, tensor: StoredTensor) -> bool:
    name = tensor.info.name
    is_old_mask = len(tensor.info.shape) == 4 and re.search(_OLD_MASK, name) is not None  # noqa: PLR2004
    is_leftover = is_old_mask or re.search(_LEFTOVERS, name) is not None
    return is_leftover or _matches(model, "_keys_to_ignore_on_load_unexpected", name)


def _matches(model: Any, attribute: str, name: str) -> bool:
    """Tell whether a model's class itself says that it does without a tensor."""
    return any(re.search(pattern, name) for pattern in getattr(model, attribute, None) or ())


def _why_missing(name: str, model: Any, stored: Mapping[str, StoredTensor]) -> str:
    """Return one sentence about a tensor that is not stored under its name."""
    again = "load the model with transformers and write it again with save_pretrained"
    copies = [copy for copy, owner in tied_parameters(model).items() if owner == name and copy in stored]
    if copies:
        return f"it stores {name} as {copies[0]} only, which shares its weight; {again}."
    if name.removeprefix(f"{model.base_model_prefix}.") in stored:
        return (
            f"the weights have old names, without {model.base_model_prefix!r} before them; {again}, which gives them "
            "those of today."
        )
    longer = next((other for other in stored if other.endswith(f".{name}")), None)
    if longer is not None:
        return (
            f"its weights have {longer.removesuffix(name)!r} before the names that transformers gives them, such as "
            f"{longer}; take it away in the weight files."
        )
    return _why_converted(name, model, stored) or f"the weights lack {name}, which config.json asks for."


def _why_converted(name: str, model: Any, stored: Mapping[str, StoredTensor]) -> str | None:
    """Return one sentence where transformers makes a tensor of stored ones that have other names."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, rename_source_key

    transforms = get_model_conversion_mapping(model, add_legacy=False)
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    renamings = [t for t in transforms if not isinstance(t, WeightConverter)]
    wanted, renamed = model.state_dict(), None
    for other in stored:
        target, pattern = rename_source_key(other, renamings, converters, model.base_model_prefix, wanted)
        if pattern is not None and target in wanted and target not in stored:
            return (
                f"transformers makes {target} of several stored tensors, such as {other}, as for mixtures of experts; "
                "that is not supported yet."
            )
        renamed = other if target == name else renamed
    return renamed and f"it stores {name} as {renamed}, a name that transformers changes; that is not supported yet."
