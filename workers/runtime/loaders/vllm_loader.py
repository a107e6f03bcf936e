"""An export for vLLM in a fresh process, which vLLM itself needs a GPU for: its files as transformers reads them.

What searches measured rounds inputs as vLLM's kernels do. So weights are loaded without the rounding that
compressed-tensors does in transformers, and inputs are rounded by ours; then the same files are loaded as they are, and
the KL of compressed-tensors' own rounding is held against it, at vLLM's steps: integers of a token are 127 there to its
largest value, where compressed-tensors' emulation has 127.5, which is an eighth of the KL of a model that loses little.
"""

import copy
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.plan import Plan
from workers.devices import Device, compute_dtype
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import Teacher
from workers.families.family import Family
from workers.kernels.inputs.input_rounding import round_inputs
from workers.kernels.key_values.remembering import remember_by

_BATCH = 4
_OF_INPUTS = ".input_global_scale"  # no parameter where inputs are ours to round
_FLOAT8 = {"num_bits": 8, "type": "float", "symmetric": True, "strategy": "tensor", "dynamic": False}


def load_for_vllm(_: Path, folder: Path, device: Device, loader: str, plan: Plan) -> tuple[Any, dict[str, list[str]]]:
    """Return the model as searches run it, and missing, unexpected and mismatched keys."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    settings = copy.deepcopy(config.quantization_config)
    for group in settings["config_groups"].values():
        group["input_activations"] = None
    config.quantization_config = settings
    model, report = _from_files(folder, device, loader, config)
    remember_by(model, plan)
    round_inputs(model, plan)
    found = {kind: [str(key) for key in keys if not str(key).endswith(_OF_INPUTS)] for kind, keys in report.items()}
    return model, {kind: sorted(keys) for kind, keys in found.items() if keys}


def _from_files(folder: Path, device: Device, loader: str, config: Any) -> tuple[Any, dict[str, Any]]:
    import transformers

    model, report = getattr(transformers, loader).from_pretrained(
        folder,
        config=config,
        dtype=compute_dtype(device),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    _unpack(model)
    return model.eval().to(device, compute_dtype(device)), report


def _unpack(model: Any) -> None:
    """Unpack all weights now, not at the first call: 4-bit floats come as bfloat16, whatever type the model has.

    They are bfloat16 to the bit, so that nothing is lost.
    """
    from compressed_tensors.offload import remove_dispatch

    if (quantizer := getattr(model, "hf_quantizer", None)) is not None:
        quantizer.compressor.decompress_model(model)
        remove_dispatch(model)


def in_compressed_tensors(
    folder: Path, tokens: Tensor, teacher: Teacher, family: Family, plan: Plan
) -> tuple[str, list[float]] | None:
    """Return the KL of the logits on each of (N, T) tokens with all that compressed-tensors rounds; None: nothing."""
    import transformers

    config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    groups = config.quantization_config["config_groups"].values()
    if plan.cache_level.is_dense and all(group["input_activations"] is None for group in groups):
        return None
    if not plan.cache_level.is_dense:
        config.quantization_config["kv_cache_scheme"] = _FLOAT8
    device: Device = "cpu" if tokens.device.type == "cpu" else "cuda"
    model, _ = _from_files(folder, device, "AutoModelForCausalLM", config)
    for name, scale in model.named_parameters():
        if name.endswith((".k_scale", ".v_scale")):
            scale.data.fill_(1.0)  # what vLLM takes where a checkpoint has none
    batches = tokens.split(_BATCH)
    with torch.no_grad(), _steps_of_vllm():
        logits = (model(input_ids=batch, use_cache=False).logits for batch in batches)
        kl, _ = sequence_quality(logits, batches, teacher, family.loss)
    return "compressed-tensors", kl


@contextmanager
def _steps_of_vllm() -> Iterator[None]:
    """Let compressed-tensors choose the steps of inputs as vLLM's kernels do: whole integers on both sides."""
    from compressed_tensors.quantization import QuantizationType
    from compressed_tensors.quantization.utils import helpers

    chosen = helpers.calculate_qparams

    def at_whole_integers(low: Tensor, high: Tensor, args: Any, *rest: Any, **more: Any) -> tuple[Tensor, Tensor]:
        scale, zero = chosen(low, high, args, *rest, **more)
        largest = 2 ** (args.num_bits - 1) - 1
        return scale * ((largest + 0.5) / largest if args.type == QuantizationType.INT else 1.0), zero

    helpers.calculate_qparams = at_whole_integers
    try:
        yield
    finally:
        helpers.calculate_qparams = chosen
