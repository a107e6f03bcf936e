"""Registers the `packed` format with transformers by its own hooks for quantizers; no code comes from a checkpoint."""

from pathlib import Path
from typing import Any

import torch
from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from workers.models.digests import check_digests
from workers.models.headers import read_header
from workers.packed import install_dense, install_packed, keep_parameter

QUANT_METHOD = "tightfit"


@register_quantization_config(QUANT_METHOD)
class PackedConfig(QuantizationConfigMixin):  # type: ignore[misc]
    """The `quantization_config` of a packed checkpoint.

    Attributes:
        plan: module name -> level text.
        tied: head name -> embedding name.
        schema_version: of this object.
        digests: name of a weight file -> its sha256.

    """

    def __init__(
        self,
        plan: dict[str, str],
        tied: dict[str, str],
        schema_version: int = 1,
        digests: dict[str, str] | None = None,
        **_: Any,
    ) -> None:
        """Take the fields as stored."""
        self.quant_method, self.digests = QUANT_METHOD, digests or {}
        self.plan, self.tied, self.schema_version = plan, tied, schema_version
        if schema_version != 1:
            raise ValueError(f"This checkpoint has schema {schema_version}; this tightfit reads 1. Update tightfit.")

    def to_dict(self) -> dict[str, Any]:
        """Return the fields to store; files that transformers writes have other bytes, so digests are left out."""
        return {name: value for name, value in super().to_dict().items() if name != "digests"}


@register_quantizer(QUANT_METHOD)
class PackedQuantizer(HfQuantizer):  # type: ignore[misc]
    """Puts packed modules in place before the weights are read."""

    requires_calibration = True

    def _process_model_before_weight_loading(self, model: Any, **options: Any) -> None:
        files = [Path(path) for path in options.get("checkpoint_files") or ()]
        for path in files:
            read_header(path)  # names a truncated file; what reads it later does not
        check_digests(files, self.quantization_config.digests)
        for head in install_packed(model, self.quantization_config.plan, self.quantization_config.tied):
            model.all_tied_weights_keys.pop(f"{head}.weight", None)  # there is no such parameter any more

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        keep_parameter(model)
        return model

    def _dequantize(self, model: nn.Module, dtype: torch.dtype | None = None) -> nn.Module:
        """Answer `model.dequantize()`: every weight is unpacked once and held."""
        install_dense(model, dtype or torch.float32)
        return model

    def is_serializable(self, *_: Any, **__: Any) -> bool:
        """Tell transformers that `save_pretrained` works."""
        return True

    @property
    def is_trainable(self) -> bool:
        """Tell transformers that packed weights cannot be trained."""
        return False
