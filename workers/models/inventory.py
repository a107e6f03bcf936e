"""The inventory of a model folder, from its config and safetensors headers: no weight is read."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import torch
from torch import nn

from space.errors import ModelError
from space.inventory import ITEM_BYTES, Inventory, KeyValueShape, ModuleInfo
from workers.models.blocks import find_blocks
from workers.models.files import read_config, read_headers
from workers.models.headers import StoredTensor
from workers.models.plausible import check_numbers, no_more_parameters_than
from workers.models.ties import tied_names


def skeleton(folder: Path, stored: Mapping[str, StoredTensor]) -> nn.Module:
    """Return the model on the meta device: structure without weights.

    Args:
        folder: the model.
        stored: its tensors by name, which bound what its config may ask for.

    Raises:
        ModelError: transformers has no such architecture, or the config is inconsistent.

    """
    from transformers import AutoConfig, AutoModelForCausalLM  # noqa: PLC0415 (slow)

    try:
        config = AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
        with torch.device("meta"), no_more_parameters_than(stored):
            model: nn.Module = AutoModelForCausalLM.from_config(config, trust_remote_code=False)
    except Exception as error:  # the library raises many kinds, all of them about the user's config
        reason = (str(error) or repr(error)).splitlines()[0]
        raise ModelError(f"{folder}: transformers cannot build a causal language model from it: {reason}") from error
    return model


def inspect_model(folder: Path) -> Inventory:
    """Return the inventory of a model folder."""
    config, stored = read_config(folder), read_headers(folder)
    check_numbers(folder, config, stored)
    model = skeleton(folder, stored)
    prefix, blocks = _blocks(folder, model)
    _check_complete(folder, model, stored)
    modules = _compressible(model, stored, prefix)
    taken = {m.weight.name for m in modules}
    known = set(model.state_dict()) - taken
    others = tuple(t.info for name, t in stored.items() if name in known and not _is_tied_copy(name, model, stored))
    return Inventory(tuple(modules), others, _key_value_shape(model), len(blocks))


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


def _compressible(model: nn.Module, stored: Mapping[str, StoredTensor], blocks: str) -> list[ModuleInfo]:
    """Return linear and embedding modules in forward order, modules that share a stored weight once.

    Subclasses are left alone: their forward has rules of its own (scaled or shifted embeddings) that a packed module
    would not keep.
    """
    tied = tied_names(model)
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


def _is_tied_copy(name: str, model: nn.Module, stored: Mapping[str, StoredTensor]) -> bool:
    owner = tied_names(model).get(name.removesuffix(".weight"))
    return owner is not None and f"{owner}.weight" in stored


def _check_complete(folder: Path, model: nn.Module, stored: Mapping[str, StoredTensor]) -> None:
    """Refuse a checkpoint whose tensors do not fit its config: transformers would fill gaps with random weights."""
    tied = tied_names(model)
    for name, parameter in model.named_parameters():
        tensor = stored.get(name)
        if tensor is None:
            if name.removesuffix(".weight") not in tied:
                raise ModelError(f"{folder}: {_why_missing(name, model, stored)}")
        elif tensor.info.shape != tuple(parameter.shape):
            asked = tuple(parameter.shape)
            raise ModelError(f"{folder}: {name} is stored as {tensor.info.shape}, but config.json asks for {asked}.")


def _why_missing(name: str, model: Any, stored: Mapping[str, StoredTensor]) -> str:
    """Return one sentence about a parameter that is not stored under its name."""
    from transformers.conversion_mapping import get_model_conversion_mapping  # noqa: PLC0415 (slow)

    if name.removeprefix(f"{model.base_model_prefix}.") in stored:
        return (
            f"the weights have old names, without {model.base_model_prefix!r} before them; load the model with "
            "transformers and write it again with save_pretrained, which gives them those of today."
        )
    is_known_elsewhere = any(other.endswith(f".{name}") for other in stored)
    is_converted = get_model_conversion_mapping(model, add_legacy=False) and not stored.keys() <= set(
        model.state_dict()
    )
    if is_known_elsewhere or is_converted:
        return (
            f"it stores its weights under other names than transformers' modules have, such as {name} (mixtures of "
            "experts and multi-modal models do); that is not supported yet."
        )
    return f"the weights lack {name}, which config.json asks for."


def _key_value_shape(model: Any) -> KeyValueShape | None:
    config = model.config.get_text_config()
    layers, heads = getattr(config, "num_hidden_layers", None), getattr(config, "num_attention_heads", None)
    hidden = getattr(config, "hidden_size", None)
    if not (layers and heads and hidden):
        return None
    key_value_heads = getattr(config, "num_key_value_heads", None) or heads
    head_dim = getattr(config, "head_dim", None) or hidden // heads
    dtype = str(getattr(config, "dtype", None) or "bfloat16").rpartition(".")[2]
    item_bytes = {"float32": ITEM_BYTES["F32"]}.get(dtype, ITEM_BYTES["BF16"])
    return KeyValueShape(2 * layers * key_value_heads * head_dim, item_bytes)
