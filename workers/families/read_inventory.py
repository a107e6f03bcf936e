"""The inventory of a model folder, from its config and safetensors headers: no weight is read."""

from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch
from torch import nn

from space.errors import ModelError
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.site import Carried
from space.targets.cache_sites import as_searched
from workers.families.architecture import build_model
from workers.families.block_stacks import Stacks
from workers.families.completeness import check_complete
from workers.families.family import Family, Seen, Structure
from workers.families.find_sites import shared_layers
from workers.families.initial_weights import initialised_layers
from workers.families.input_embedding import input_embedding
from workers.families.plain_attention import in_blocks
from workers.families.stored_names import StoredNames, stored_names
from workers.models.headers import StoredTensor
from workers.models.model_files import read_config, read_headers
from workers.models.plausible import check_numbers, no_more_parameters_than
from workers.models.ties import tied_parameters

_LEFT_OUT = "transformers leaves it out when it loads the model"
_CHOSEN_EXPERTS = ("num_experts_per_tok", "num_experts_per_token", "moe_topk", "moe_k", "top_k_experts")
_UNUSED = "no call of the model uses it"
_SHARED = "it is called in several places, and no level can go there yet"


def skeleton(folder: Path, stored: Mapping[str, StoredTensor], *, images: bool = False) -> tuple[Any, Family]:
    """Return the model on the meta device, structure without weights, and its family.

    Args:
        folder: the model.
        stored: its tensors by name, which bound what its config may ask for.
        images: whether a job is given images.

    Raises:
        ModelError: no family has such an architecture, or the config is inconsistent.

    """
    return build_model(folder, _on_meta(stored), "batched_mm", images=images)  # does not look at what goes where


@contextmanager
def _on_meta(stored: Mapping[str, StoredTensor]) -> Iterator[None]:
    with torch.device("meta"), no_more_parameters_than(stored):
        yield


def inspect_searched(
    folder: Path, names: Collection[str], context: int = 1, batch: int = 1, target: str = "packed"
) -> Inventory:
    """Return the inventory of a model folder as a job saw it whose plans have levels of such names.

    Args:
        folder: the model.
        names: of sites; those of a tower of images are there where the job was given images, and so on.
        context: tokens that caches hold, where they have levels.
        batch: sequences that they hold.
        target: whose runtime holds them.

    """
    found = inspect_model(folder)
    known = {m.name for m in found.modules} | {layer.owner for layer in found.key_value or ()}
    if not all(name in known or name.rpartition(".")[0] in known for name in names):  # of experts and caches: in part
        found = inspect_model(folder, images=True)
    return as_searched(found, names, context, batch, target)


def inspect_model(folder: Path, *, images: bool = False) -> Inventory:
    """Return the inventory of a model folder, for a job that is given images or not."""
    config, stored = read_config(folder), read_headers(folder)
    check_numbers(folder, config, stored)
    model, family = skeleton(folder, stored, images=images)
    names = stored_names(folder, model, {name: tensor.info.shape for name, tensor in stored.items()})
    unknown = check_complete(folder, model, stored, names)
    stacks, seen = _looked_at(folder, model, family)
    modules = family.sites(Structure(folder, model, stored, names, family.searched(model), stacks, seen))
    if not any(m.block is not None for m in modules):
        prefix, blocks = stacks[0]
        raise ModelError(f"{folder}: {prefix} has {_no_layers(blocks)}; others are not supported yet.")
    _check_experts(folder, modules, _experts_per_token(model.config.get_text_config()))
    others = _others(model, modules, stored, names, unknown.dropped)
    text_config, embedding = model.config.get_text_config(), input_embedding(model)
    carried = _carried(names, others, _reasons(model, family, seen, unknown.left_out))
    looked_at = initialised_layers(model)
    return Inventory(
        tuple(replace(module, initialised=module.name in looked_at) for module in modules),
        others,
        in_blocks(seen.cache, stacks),
        sum(len(blocks) for _, blocks in stacks),
        None if embedding is None else len(embedding.weight),
        _num_positions(text_config),
        first if isinstance(first := getattr(text_config, "bos_token_id", None), int) else None,
        family.name,
        carried,
        _experts_per_token(text_config),
        merged=next((name for name, origin in names.origins.items() if len(origin.sources) > 1), None),
    )


def _check_experts(folder: Path, modules: Sequence[ModuleInfo], chosen: int | None) -> None:
    """Refuse a config that sends each token to more experts than there are. Raises ModelError."""
    held = max((m.site.num_experts or 0 for m in modules if m.site is not None), default=0)
    if chosen is not None and 0 < held < chosen:
        raise ModelError(
            f"{folder}: config.json sends each token to {chosen} experts, and the files hold {held} of a block. "
            "No program runs such a model; download it again."
        )


def _looked_at(folder: Path, model: Any, family: Family) -> tuple[Stacks, Seen]:
    """Return the lists of blocks that a worker runs one by one, and what forwards show."""
    try:
        return family.stages(model), family.cache(model.eval())
    except ModelError as error:
        raise ModelError(f"{folder}: {error}") from error


def _no_layers(blocks: nn.Module) -> str:
    kinds = {type(module) for module in blocks.modules() if getattr(getattr(module, "weight", None), "ndim", 0) > 1}
    return f"no linear layers (but {', '.join(sorted(kind.__name__ for kind in kinds)) or 'none with weights'})"


def _others(
    model: Any,
    modules: Sequence[ModuleInfo],
    stored: Mapping[str, StoredTensor],
    names: StoredNames,
    dropped: Collection[str],
) -> tuple[TensorInfo, ...]:
    """Return the stored tensors that are no site's; of a tied weight that is stored twice only the one that is used."""
    gone = {source for m in modules for source in m.sources} | set(dropped)
    for copy, owner in tied_parameters(model).items():
        if copy in names.origins and owner in names.origins:
            gone |= set(names.origins[copy].sources)
    return tuple(tensor.info for name, tensor in stored.items() if name not in gone)


def _reasons(model: Any, family: Family, seen: Seen, left_out: Collection[str]) -> Callable[[str, str], str | None]:
    """Return (stored tensor, what it is a part of) -> why the searched model does without it; None: it does not."""
    searched, shared = family.searched(model), shared_layers(model)

    def reason(name: str, target: str) -> str | None:
        if name in left_out:
            return _LEFT_OUT
        if not searched(target):
            return family.question.left_out
        module_name = target.rpartition(".")[0]
        return _SHARED if module_name in shared else _UNUSED if module_name in seen.unused else None

    return reason


def _carried(
    names: StoredNames, others: Sequence[TensorInfo], reasons: Callable[[str, str], str | None]
) -> tuple[Carried, ...]:
    """Return, summed up by the first parts of their names, the tensors that the searched model does without."""
    made = {source: target for target, origin in names.origins.items() for source in origin.sources}
    sizes: dict[tuple[str, str], int] = {}
    for info in others:
        reason = reasons(info.name, made.get(info.name, info.name))
        if reason is not None:
            key = ".".join(info.name.split(".")[:2]), reason
            sizes[key] = sizes.get(key, 0) + info.size_bytes
    return tuple(Carried(name, size, reason) for (name, reason), size in sizes.items())


def _experts_per_token(config: Any) -> int | None:
    """Return how many experts a token is sent to, under the names that configs have for it."""
    found = next((getattr(config, name) for name in _CHOSEN_EXPERTS if hasattr(config, name)), None)
    return found if isinstance(found, int) and found > 0 else None


def _num_positions(config: Any) -> int | None:
    """Return how many tokens a sequence may have, where the config tells it."""
    found = next((getattr(config, n) for n in ("max_position_embeddings", "max_seq_len") if hasattr(config, n)), None)
    return found if isinstance(found, int) and found > 0 else None
