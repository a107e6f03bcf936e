"""Registers EXL3 files with transformers, so that an export is verified by our own reader; on any device.

Only the process that verifies imports it: exllamav3's own plugin has the same name.
"""

from pathlib import Path
from typing import Any

from torch import nn
from transformers.quantizers import HfQuantizer, register_quantization_config, register_quantizer
from transformers.utils.quantization_config import QuantizationConfigMixin

from workers.kernels.exl3.exl3_code import TILE
from workers.kernels.exl3.exl3_format import QUANT_METHOD
from workers.models.headers import read_header
from workers.runtime.packed_modules import install_packed


@register_quantization_config(QUANT_METHOD)
class Exl3Config(QuantizationConfigMixin):  # type: ignore[misc]
    """The `quantization_config` of EXL3 files, as stored."""

    def __init__(self, **fields: Any) -> None:
        """Keep the fields."""
        self.__dict__ |= {**fields, "quant_method": QUANT_METHOD}


@register_quantizer(QUANT_METHOD)
class Exl3Quantizer(HfQuantizer):  # type: ignore[misc]
    """Puts packed modules in place of those whose tiles are in the files: their bits follow from a tile's words."""

    requires_calibration = True

    def _process_model_before_weight_loading(self, model: Any, **options: Any) -> None:
        tensors = [t.info for path in options.get("checkpoint_files") or () for t in read_header(Path(path))]
        prefix = "" if hasattr(model, model.base_model_prefix) else f"{model.base_model_prefix}."
        tiles = {t.name.removesuffix(".trellis"): t.shape for t in tensors if t.name.endswith(".trellis")}
        plan = {name.removeprefix(prefix): f"exl3-{shape[2] // TILE}" for name, shape in tiles.items()}
        install_packed(model, plan, {})

    def _process_model_after_weight_loading(self, model: nn.Module, **_: Any) -> nn.Module:
        return model

    def is_serializable(self, *_: Any, **__: Any) -> bool:
        """Tell transformers not to save it: tightfit and exllamav3 write such files."""
        return False

    @property
    def is_trainable(self) -> bool:
        """Tell transformers that tiles cannot be trained."""
        return False
