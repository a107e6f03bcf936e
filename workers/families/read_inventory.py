"""The inventory of a model folder, from its config and safetensors headers: no weight is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from space.errors import ModelError
from space.inventory import Inventory
from workers.families.architecture import build_model
from workers.families.completeness import check_complete
from workers.families.family import Family, Seen
from workers.models.headers import StoredTensor
from workers.models.model_files import read_config, read_headers
from workers.models.plausible import check_numbers, no_more_parameters_than
from workers.models.ties import tied_parameters


def skeleton(folder: Path, stored: Mapping[str, StoredTensor]) -> tuple[Any, Family]:
    """Return the model on the meta device, structure without weights, and its family.

    Args:
        folder: the model.
        stored: its tensors by name, which bound what its config may ask for.

    Raises:
        ModelError: no family has such an architecture, or the config is inconsistent.

    """
    return build_model(folder, _on_meta(stored))


@contextmanager
def _on_meta(stored: Mapping[str, StoredTensor]) -> Iterator[None]:
    with torch.device("meta"), no_more_parameters_than(stored):
        yield


def inspect_model(folder: Path) -> Inventory:
    """Return the inventory of a model folder."""
    config, stored = read_config(folder), read_headers(folder)
    check_numbers(folder, config, stored)
    model, family = skeleton(folder, stored)
    prefix, blocks = _blocks(folder, model, family)
    check_complete(folder, model, stored)
    seen = _seen(folder, model, family)
    modules = [m for m in family.sites(folder, model, stored, prefix) if m.name not in seen.bypassed]
    ties, taken = tied_parameters(model), {m.weight.name for m in modules}
    left = set(model.state_dict()) - taken - {copy for copy, owner in ties.items() if owner in stored}
    others = tuple(tensor.info for name, tensor in stored.items() if name in left)
    text_config, embedding = model.config.get_text_config(), model.get_input_embeddings()
    return Inventory(
        tuple(modules),
        others,
        seen.cache,
        len(blocks),
        len(embedding.weight),
        _num_positions(text_config),
        text_config.bos_token_id if isinstance(text_config.bos_token_id, int) else None,
        family.name,
    )


def _seen(folder: Path, model: Any, family: Family) -> Seen:
    try:
        return family.cache(model.eval())
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _blocks(folder: Path, model: nn.Module, family: Family) -> tuple[str, nn.ModuleList]:
    """Return the name of the list of blocks that a worker runs one by one, and the list.

    Raises:
        ModelError: there is none, none of its layers can be packed, or linear layers lie in another list, and would be
            run with no block or not at all.

    """
    try:
        found, blocks = family.stages(model)
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error
    lists = tuple(f"{name}." for name, module in model.named_modules() if isinstance(module, nn.ModuleList))
    for name, module in model.named_modules():
        if type(module) is nn.Linear and name.startswith(lists) and not name.startswith(f"{found}."):
            raise ModelError(
                f"{folder}: {name} lies outside {found}, the longest list of equal blocks; models with blocks of "
                "several kinds, or with several lists of them (encoders, towers), are not supported yet."
            )
    kinds = {type(module) for module in blocks.modules() if getattr(getattr(module, "weight", None), "ndim", 0) > 1}
    if nn.Linear not in kinds:
        others = ", ".join(sorted(kind.__name__ for kind in kinds)) or "none with weights"
        raise ModelError(f"{folder}: {found} has no plain linear layers (but {others}); others are not supported yet.")
    return found, blocks


def _num_positions(config: Any) -> int | None:
    """Return how many tokens a sequence may have, where the config tells it."""
    found = next((getattr(config, n) for n in ("max_position_embeddings", "max_seq_len") if hasattr(config, n)), None)
    return found if isinstance(found, int) and found > 0 else None
