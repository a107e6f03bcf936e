"""Stored tensors and the parameters that transformers makes of them, by its own mapping of names and conversions."""

from collections.abc import Callable, Iterable, Mapping
from copy import deepcopy
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import ModelError, in_one_line
from workers.models.mxfp4 import FromMxfp4, mxfp4_values, stored_pairs


@dataclass(frozen=True, slots=True)
class Origin:
    """What a parameter is made of.

    Attributes:
        sources: the stored tensors, in the order of experts where there are several.
        made: all parameters that are made of them together.
        patterns: of each source, which of the converter's it matched.
        converter: transformers' own, None where the parameter is the one stored tensor as it is.

    """

    sources: tuple[str, ...]
    made: tuple[str, ...]
    patterns: tuple[str, ...] = ()
    converter: Any = None


@dataclass(frozen=True, slots=True)
class StoredNames:
    """Where all parameters and buffers of a model come from.

    Attributes:
        origins: parameter or buffer -> what it is made of.
        shapes: the shape that it then has.
        unknown: stored tensors that nothing is made of.

    """

    origins: Mapping[str, Origin]
    shapes: Mapping[str, tuple[int, ...]]
    unknown: tuple[str, ...]


def stored_names(folder: Path, model: Any, shapes: Mapping[str, tuple[int, ...]]) -> StoredNames:
    """Return where the parameters of a model come from.

    Args:
        folder: the model, for errors.
        model: as transformers builds it.
        shapes: stored tensor -> its shape.

    Raises:
        ModelError: stored tensors cannot be converted.

    """
    groups, unknown = _grouped(model, shapes)
    origins, made_shapes = dict[str, Origin](), dict[str, tuple[int, ...]]()
    for target, (converter, members) in groups.items():
        names = tuple(members)
        if converter is None:
            origins[target], made_shapes[target] = Origin(names[-1:], (target,)), shapes[names[-1]]
            continue
        origin = Origin(names, (), tuple(members.values()), converter)
        try:
            made = _convert(model, target, origin, lambda name: torch.empty(shapes[name], device="meta"))
        except Exception as error:  # the library raises many kinds, all of them about the user's files
            raise ModelError(
                f"{folder}: transformers cannot make {target} of {len(names)} stored tensors, such as {names[0]}: "
                f"{in_one_line(error)}. Download the model again."
            ) from error
        origin = Origin(names, tuple(made), tuple(members.values()), converter)
        origins |= dict.fromkeys(made, origin)
        made_shapes |= {name: tuple(tensor.shape) for name, tensor in made.items()}
    pairs = stored_pairs(unknown, model.state_dict())
    for target, names in pairs.items():
        origins[target] = Origin(names, (target,), names, FromMxfp4())
        codes = (torch.empty(shapes[name], dtype=torch.uint8, device="meta") for name in names)
        made_shapes[target] = tuple(mxfp4_values(*codes).shape)
    decoded = {name for names in pairs.values() for name in names}
    return StoredNames(origins, made_shapes, tuple(name for name in unknown if name not in decoded))


def converted(model: Any, parameter: str, origin: Origin, tensor: Callable[[str], Tensor]) -> Tensor:
    """Return a parameter's value, given its stored tensors by name; it may be a view of the one that it is."""
    if origin.converter is None:
        return tensor(origin.sources[0])
    return _convert(model, origin.made[0], origin, tensor)[parameter]


def taken_for(model: Any, names: Iterable[str]) -> list[str]:
    """Return the names that transformers takes stored tensors for, whether or not there is such a parameter."""
    return [target for _, target, _ in _renamed(model, names)[1]]


def _grouped(model: Any, names: Iterable[str]) -> tuple[dict[str, tuple[Any, dict[str, str]]], list[str]]:
    """Return target -> (its converter, source -> pattern), and the names that are no target's."""
    wanted = model.state_dict()
    by_pattern, renamed = _renamed(model, names)
    groups, unknown = dict[str, tuple[Any, dict[str, str]]](), list[str]()
    for name, target, pattern in renamed:
        if target not in wanted:
            unknown.append(name)
            continue
        _, members = groups.setdefault(target, (by_pattern.get(pattern), {}))
        members[name] = pattern or ""
    return groups, unknown


def _renamed(model: Any, names: Iterable[str]) -> tuple[dict[str | None, Any], list[tuple[str, str, str | None]]]:
    """Return pattern -> converter, and (name, what it is taken for, the pattern that it matched) in natural order."""
    from transformers.conversion_mapping import get_model_conversion_mapping
    from transformers.core_model_loading import WeightConverter, dot_natural_key, rename_source_key

    transforms = get_model_conversion_mapping(model)
    converters = [t for t in transforms if isinstance(t, WeightConverter)]
    renamings = [t for t in transforms if not isinstance(t, WeightConverter)]
    by_pattern: dict[str | None, Any] = {pattern: c for c in converters for pattern in c.source_patterns}
    wanted, prefix, found = model.state_dict(), model.base_model_prefix, list[tuple[str, str, str | None]]()
    for name in sorted(names, key=dot_natural_key):
        target, pattern = rename_source_key(name, renamings, converters, prefix, wanted)
        if target not in wanted and name in wanted:
            target, pattern = rename_source_key(name, [], [], prefix, wanted)
        found.append((name, target, pattern))
    return by_pattern, found


def _convert(model: Any, target: str, origin: Origin, tensor: Callable[[str], Tensor]) -> dict[str, Tensor]:
    converter = deepcopy(origin.converter)
    for name, pattern in zip(origin.sources, origin.patterns, strict=True):
        converter.add_tensor(target, name, pattern, tensor(name))
    made = converter.convert(target, model=model, config=model.config)
    return {name: value[0] if isinstance(value, list) else value for name, value in made.items()}
