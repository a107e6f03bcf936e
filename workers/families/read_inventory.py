"""The inventory of a model folder, from its config and safetensors headers: no weight is read."""

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import nn

from space.errors import ModelError
from space.inventory import Inventory, ModuleInfo
from workers.families.architecture import build_model
from workers.families.blocks import find_blocks
from workers.families.completeness import check_complete
from workers.families.dry_forward import Seen, dry_forward
from workers.models.headers import StoredTensor
from workers.models.model_files import read_config, read_headers
from workers.models.plausible import check_numbers, no_more_parameters_than
from workers.models.ties import tied_names, tied_parameters


def skeleton(folder: Path, stored: Mapping[str, StoredTensor]) -> Any:
    """Return the model on the meta device: structure without weights.

    Args:
        folder: the model.
        stored: its tensors by name, which bound what its config may ask for.

    Raises:
        ModelError: transformers has no such architecture, it is of another class, or the config is inconsistent.

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
    model = skeleton(folder, stored)
    prefix, blocks = _blocks(folder, model)
    check_complete(folder, model, stored)
    seen = _seen(folder, model)
    modules = [m for m in _compressible(folder, model, stored, prefix) if m.name not in seen.bypassed]
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
    )


def _seen(folder: Path, model: Any) -> Seen:
    try:
        return dry_forward(model.eval())
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _blocks(folder: Path, model: nn.Module) -> tuple[str, nn.ModuleList]:
    """Return the name of the list of blocks that a worker runs one by one, and the list.

    Raises:
        ModelError: there is none, none of its layers can be packed, or linear layers lie in another list, and would be
            run with no block or not at all.

    """
    try:
        found, blocks = find_blocks(model)
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


def _compressible(folder: Path, model: nn.Module, stored: Mapping[str, StoredTensor], blocks: str) -> list[ModuleInfo]:
    """Return linear and embedding modules in forward order, modules that share a stored weight once.

    Subclasses are left alone: their forward has rules of its own (scaled or shifted embeddings) that a packed module
    would not keep.
    """
    tied = tied_names(model)
    for copy, owner in tied.items():
        if type(model.get_submodule(owner)) is nn.Linear:
            raise ModelError(f"{folder}: {copy} and {owner} share one weight; only a head may, with its embedding.")
    found = []
    for name, module in model.named_modules():
        weight = stored.get(f"{name}.weight")
        if weight is None or name in tied or type(module) not in (nn.Linear, nn.Embedding):
            continue
        inside = name.removeprefix(f"{blocks}.").partition(".")[0] if name.startswith(f"{blocks}.") else ""
        found.append(
            ModuleInfo(
                name=name,
                kind="embedding" if isinstance(module, nn.Embedding) else "linear",
                weight=weight.info,
                block=int(inside) if inside else None,
                tied=tuple(copy for copy, original in tied.items() if original == name),
            )
        )
    return found


def _num_positions(config: Any) -> int | None:
    """Return how many tokens a sequence may have, where the config tells it."""
    found = next((getattr(config, n) for n in ("max_position_embeddings", "max_seq_len") if hasattr(config, n)), None)
    return found if isinstance(found, int) and found > 0 else None
