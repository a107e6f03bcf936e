"""Registers the `packed` format with transformers by its own hooks for quantizers; no code comes from a checkpoint."""

import re
from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from space.inventory import PACKED
from workers.families.stored_names import taken_for
from workers.kernels.key_values.remembering import remember_as
from workers.models.digests import check_digests
from workers.models.headers import read_header
from workers.runtime.packed_format import CACHE_VERSION, QUANT_METHOD, WEIGHTS_FIELD
from workers.runtime.packed_modules import (
    install_dense,
    install_packed,
    keep_parameter,
    packed_modules,
    use_fast_kernels,
)
from workers.runtime.packed_tensor import PackedTensor

_OF_EXPERT = re.compile(rf"{PACKED}\.\d+$")


@register_quantization_config(QUANT_METHOD)
class PackedConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The `quantization_config` of a packed checkpoint.

    Attributes:
        plan: module name -> level text.
        tied: head name -> embedding name.
        parameters: module name -> the parameter that is packed alone, where that is not all of a plain layer.
        transposed: of these, the modules whose parameter stands as (in, out).
        experts: of these, the modules that are one expert of their parameter, and which.
        cache: name of keys or values -> level text, of those that are remembered in fewer bits.
        schema_version: of this object.
        digests: name of a weight file -> its sha256.

    """

    def __init__(
        self,
        plan: dict[str, str],
        tied: dict[str, str],
        schema_version: int = 1,
        digests: dict[str, str] | None = None,
        parameters: dict[str, str] | None = None,
        transposed: list[str] | None = None,
        experts: dict[str, int] | None = None,
        cache: dict[str, str] | None = None,
        **_: Any,
    ) -> None:
        """Take the fields as stored."""
        self.quant_method, self.digests = QUANT_METHOD, digests or {}
        self.plan, self.tied, self.schema_version = plan, tied, schema_version
        self.parameters, self.transposed, self.experts = parameters or {}, transposed or [], experts or {}
        self.cache = cache or {}
        if schema_version not in range(1, CACHE_VERSION + 1):
            reads = f"this tightfit reads 1 to {CACHE_VERSION}. Update tightfit."
            raise ValueError(f"This checkpoint has schema {schema_version}; {reads}")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields to store; files that transformers writes have other bytes, so digests are left out."""
        left_out = {"digests", *(() if self.parameters else ("parameters", "transposed"))}
        left_out |= {name for name in ("experts", "cache") if not getattr(self, name)}
        return {name: value for name, value in super().to_dict().items() if name not in left_out}


@register_quantizer(QUANT_METHOD)
class PackedQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts packed modules in place before the weights are read."""

    requires_calibration = True

    def update_attn_implementation(self, config: Any) -> Any:
        """Take out of the config what keeps others from loading; of the hooks before loading, this one is given it."""
        if hasattr(config, WEIGHTS_FIELD):
            delattr(config, WEIGHTS_FIELD)
        return config

    update_tp_plan = update_attn_implementation  # the one that is given it in releases before (5.17, say)

    def _process_model_before_weight_loading(self, model: Any, **options: Any) -> None:
        files = [Path(path) for path in options.get("checkpoint_files") or ()]
        for path in files:
            read_header(path)  # names a truncated file; what reads it later does not
        check_digests(files, self.quantization_config.digests)
        prefix = _prefix(model)
        settings = self.quantization_config
        plan, tied, parameters = (
            {name.removeprefix(prefix): value.removeprefix(prefix) for name, value in names.items()}
            for names in (settings.plan, settings.tied, settings.parameters)
        )
        transposed = {name.removeprefix(prefix) for name in settings.transposed}
        experts = {name.removeprefix(prefix): index for name, index in settings.experts.items()}
        model.set_experts_implementation("eager")  # unpacks those experts alone that tokens are sent to
        for copy in install_packed(model, plan, tied, parameters, transposed, experts):
            model.all_tied_weights_keys.pop(f"{copy}.weight", None)  # there is no such parameter any more
        in_the_way = _in_the_way(model)  # of others
        names = "|".join(map(re.escape, {*in_the_way, *taken_for(model, in_the_way)}))
        if names:
            model._keys_to_ignore_on_load_unexpected.add(rf"(?:^|\.)(?:{names})$")  # noqa: SLF001 (transformers')

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        keep_parameter(model)
        remember_as(model, {name.removeprefix(_prefix(model)): v for name, v in self.quantization_config.cache.items()})
        use_fast_kernels(model, fast=True)
        return model

    def get_state_dict_and_metadata(self, model: nn.Module) -> tuple[dict[str, Any], dict[str, str]]:
        """Return what `save_pretrained` writes: the model, and in the way of others a weight of one byte per module."""
        others = {name: torch.zeros(1, dtype=torch.uint8) for name in _in_the_way(model, layers_only=True)}
        return model.state_dict() | others, {}

    def _dequantize(self, model: Any, dtype: torch.dtype | None = None) -> nn.Module:
        """Answer `model.dequantize()`: every weight is unpacked once and held, and the whole model is of one type.

        What transformers keeps in float32 when it loads a model of that type stays so; buffers that it computes stay
        as they are.
        """
        dtype = dtype or torch.float32
        install_dense(model, dtype)
        kept = "|".join(name.replace("*", ".*") for name in model._get_dtype_plan(dtype))  # noqa: SLF001 (transformers')
        stored = model.state_dict(keep_vars=True)
        for name, tensor in stored.items():
            if tensor.is_floating_point():
                tensor.data = tensor.to(torch.float32 if kept and re.search(kept, name) else dtype)
        for config in (model.config, model.config.get_text_config()):
            config.dtype = dtype
        return model  # type: ignore[no-any-return]

    def is_serializable(self, *_: Any, **__: Any) -> bool:
        """Tell transformers that `save_pretrained` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Tell transformers that packed weights cannot be trained."""
        return False


def _prefix(model: Any) -> str:
    """Return what names of modules begin with that this model leaves out: it is the base of the one that was packed."""
    return "" if hasattr(model, model.base_model_prefix) else f"{model.base_model_prefix}."


def _in_the_way(model: nn.Module, *, layers_only: bool = False) -> list[str]:
    """Return the names of the tensors without values that a packed checkpoint has in the place of weights.

    Those of layers are enough to stop a loader; others transformers may want to convert when it saves.
    """
    packed = packed_modules(model)
    layers = [f"{name}.weight" for name, module in packed.items() if not isinstance(module, PackedTensor)]
    tensors = [name for name, module in packed.items() if isinstance(module, PackedTensor)]
    others = list(dict.fromkeys(_OF_EXPERT.sub(PACKED, name).removesuffix(PACKED) for name in tensors))
    return layers if layers_only and layers else layers + others
