"""Loading weights, safely: safetensors only, no remote code, no silent random weights, no NaN."""

from pathlib import Path
from typing import Any

import torch
from torch import nn

from space.errors import ModelError
from workers.models.files import read_config


def load_model(folder: Path, device: str = "cpu") -> Any:
    """Return the dense model in evaluation mode: float32 on CPU, bfloat16 on a GPU.

    Raises:
        ModelError: a weight is missing, of another shape, unreadable, or not finite.

    """
    from transformers import AutoModelForCausalLM  # noqa: PLC0415 (slow)

    read_config(folder)
    try:
        model, report = AutoModelForCausalLM.from_pretrained(
            folder,
            dtype=compute_dtype(device),
            use_safetensors=True,
            trust_remote_code=False,
            local_files_only=True,
            output_loading_info=True,
        )
    except (OSError, ValueError, RuntimeError) as error:
        raise ModelError(f"{folder}: cannot be loaded: {str(error).splitlines()[0]}") from error
    problems = [f"{kind}: {min(map(str, report[kind]))}" for kind in report if kind in _PROBLEMS and report[kind]]
    if problems:
        raise ModelError(f"{folder}: weights do not fit the config ({'; '.join(problems)}).")
    _check_finite(folder, model)
    return model.eval().requires_grad_(False).to(device)


_PROBLEMS = ("missing_keys", "mismatched_keys", "error_msgs")


def _check_finite(folder: Path, model: nn.Module) -> None:
    for name, parameter in model.named_parameters():
        if not torch.isfinite(parameter).all():
            raise ModelError(f"{folder}: {name} holds NaN or infinite values. The checkpoint is broken; fetch it anew.")


def compute_dtype(device: str) -> torch.dtype:
    """Return what models are run in: float32 on CPU, bfloat16 on a GPU."""
    return torch.float32 if device == "cpu" else torch.bfloat16


def best_device() -> str:
    """Return "cuda" where a GPU can be used, else "cpu"."""
    return "cuda" if torch.cuda.is_available() else "cpu"
