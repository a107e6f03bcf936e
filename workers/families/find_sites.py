"""Where levels may go in a model: weights of linear layers and embeddings of any class, stacks of experts, and patches.

A convolution that steps by its own size cuts its input into patches, and multiplies each as a linear layer would.
"""

from collections.abc import Collection, Iterator, Mapping

from torch import nn

from space.inventory import ModuleInfo, ModuleKind, TensorInfo
from space.site import MXFP4, Site
from workers.families.family import Structure
from workers.models.mxfp4 import FromMxfp4
from workers.models.ties import tied_names

_STACKED = 3  # dimensions of a parameter that holds experts
_TRANSPOSED = ("Llama4TextExperts",)  # stacks that stand as (in, out), and do not say so as others do
_ROUTERS = ("gate", "router", "shared_expert_gate", "classifier")


def find_sites(at: Structure) -> list[ModuleInfo]:
    """Return the sites of a model's searched parts in forward order, those that share a stored weight once."""
    tied = tied_names(at.model)
    is_mixture = any("Expert" in type(module).__name__ for module in at.model.modules())
    shared = shared_layers(at.model)
    found = []
    for name, module in at.model.named_modules():
        if (
            name in tied
            or name in shared
            or _is_unused(at, name, tied)
            or not at.searched(name)
            or (is_mixture and _is_router(name, module))
        ):
            continue
        for site_name, parameter, kind, transposed in _weights(name, module, at.seen.bypassed):
            is_layer = type(module) in (nn.Linear, nn.Embedding) and name not in at.seen.bypassed
            site = _site(at, parameter, is_layer=is_layer, transposed=transposed)
            if site is not None:
                copies = tuple(copy for copy, owner in tied.items() if owner == site_name)
                found.append(_module(at, site_name, kind, site, copies))
    return found


def shared_layers(model: nn.Module) -> frozenset[str]:
    """Return the linear layers that are one and the same under several names, called in several places: all the names.

    A head that shares its weight with an embedding is none of them.
    """
    pairs = tied_names(model).items()
    shared = [pair for pair in pairs if isinstance(model.get_submodule(pair[1]), nn.Linear)]
    return frozenset(name for pair in shared for name in pair)


def _is_unused(at: Structure, name: str, tied: Mapping[str, str]) -> bool:
    """Tell whether nothing asks for a module, nor for any other that has its weight."""
    copies = (copy for copy, owner in tied.items() if owner == name)
    return name in at.seen.unused and all(copy in at.seen.unused for copy in copies)


def _is_router(name: str, module: nn.Module) -> bool:
    """Tell whether a layer chooses among experts: it is small, and its errors send tokens elsewhere."""
    last = name.rpartition(".")[2]
    return isinstance(module, nn.Linear) and last in _ROUTERS and module.out_features < module.in_features


def _weights(name: str, module: nn.Module, bypassed: Collection[str]) -> Iterator[tuple[str, str, ModuleKind, bool]]:
    """Yield (name of a site, its parameter, kind, whether it stands as (in, out))."""
    from transformers.pytorch_utils import Conv1D

    if isinstance(module, nn.Embedding):
        if name not in bypassed:  # what code takes for itself may be of use in any block, and is small
            yield name, f"{name}.weight", "embedding", False
    elif isinstance(module, nn.Linear | Conv1D):
        yield name, f"{name}.weight", "linear", isinstance(module, Conv1D)
    elif isinstance(module, nn.Conv2d | nn.Conv3d):
        if _cuts_patches(module):
            yield name, f"{name}.weight", "linear", False
    elif "Expert" in type(module).__name__:
        is_transposed = getattr(module, "is_transposed", type(module).__name__ in _TRANSPOSED)
        for last, parameter in module.named_parameters(recurse=False):
            if parameter.ndim == _STACKED:
                yield f"{name}.{last}", f"{name}.{last}", "linear", is_transposed


def _cuts_patches(module: nn.Conv2d | nn.Conv3d) -> bool:
    """Tell whether each value of the input is in one patch at most, and goes to all outputs of it."""
    is_padded = module.padding != "valid" and any(module.padding)
    return module.stride == module.kernel_size and module.groups == 1 and not is_padded and set(module.dilation) == {1}


def _site(at: Structure, parameter: str, *, is_layer: bool, transposed: bool) -> Site | None:
    """Return what a parameter is made of; None where that is not stored, or is of more than this parameter."""
    origin = at.names.origins.get(parameter)
    if origin is None or origin.made != (parameter,):
        return None
    if isinstance(origin.converter, FromMxfp4):
        shape = at.names.shapes[parameter]
        return Site(parameter, shape, origin.sources, is_layer, transposed, stored_as=MXFP4)
    if len({at.stored[name].info.dtype for name in origin.sources}) > 1:
        return None
    if not at.stored[origin.sources[0]].info.dtype.startswith(("F", "BF")):
        return None
    return Site(parameter, at.names.shapes[parameter], origin.sources, is_layer, transposed)


def _module(at: Structure, name: str, kind: ModuleKind, site: Site, copies: tuple[str, ...]) -> ModuleInfo:
    first = at.stored[site.sources[0]].info
    dtype = first.dtype if site.stored_as is None else "BF16"
    is_plain = site.is_layer and site.sources == (site.parameter,) and name != site.parameter
    return ModuleInfo(
        name=name,
        kind=kind,
        weight=first if is_plain else TensorInfo(site.parameter, site.matrix_shape, dtype),
        block=_block(at, name),
        tied=copies,
        site=None if is_plain else site,
    )


def _block(at: Structure, name: str) -> int | None:
    """Return the index of the block that a site is in, counted over all stacks."""
    before = 0
    for prefix, blocks in at.stacks:
        if name.startswith(f"{prefix}."):
            return before + int(name.removeprefix(f"{prefix}.").partition(".")[0])
        before += len(blocks)
    return None
