"""An MLX export in a fresh process: dense in transformers with the weights of the files, and in mlx-lm itself.

mlx-lm computes in the type of the scales, 16 bits; here it is told to compute in 32, so that what is left between the
two is how its kernels sum.
"""

from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor

from space.codings.cache_coding import mlx_group
from space.inventory import ModuleInfo
from space.plan import Plan
from space.targets.mlx_target import is_stack, paths_of
from workers.devices import Device
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import Teacher
from workers.families.family import Family
from workers.kernels.key_values.remembering import remember_by
from workers.kernels.unpack import unpack
from workers.models.model_files import read_config
from workers.runtime.loaders.filled_model import filled_model

_WEIGHTS = "model.safetensors"
_CPU_WORK = 2 * 10**10  # multiplications and additions: ten seconds of mlx's kernels for CPUs


def load_mlx(source: Path, folder: Path, device: Device, loader: str, plan: Plan) -> tuple[Any, dict[str, list[str]]]:
    """Return the model with the weights that the files hold, and missing and mismatched keys."""
    with safe_open(folder / _WEIGHTS, "pt") as file:
        stored = set(file.keys())

        def tensor(name: str) -> Tensor:
            if name not in stored:
                raise KeyError(name)
            found: Tensor = file.get_tensor(name)
            return found

        def stacked(module: ModuleInfo, name: str) -> Tensor:
            """Return a tensor of all layers that a module is: (rows, columns), or (experts, rows, columns)."""
            parts = [tensor(f"{path}.{name}") for path in paths_of(module)]
            return parts[0] if len(parts) == 1 else torch.cat(parts, dim=1)

        def read(module: ModuleInfo) -> Tensor:
            level = plan[module.name]
            if level.is_dense:
                return stacked(module, "weight") if is_stack(module) else tensor(module.weight.name)
            stream = stacked(module, "weight").view(torch.uint8)
            tensors = {"qweight": stream, "scales": stacked(module, "scales"), "biases": stacked(module, "biases")}
            values = unpack({name: x.flatten(0, -2) for name, x in tensors.items()}, level, module.in_features)
            return values.view(*stream.shape[:-1], module.in_features)

        model, problems = filled_model(source, device, loader, read)
        remember_by(model, plan)
        return model, problems


def in_mlx(
    folder: Path, samples: Tensor, teacher: Teacher, family: Family, plan: Plan
) -> tuple[str, list[float]] | None:
    """Return the KL of mlx-lm's own logits on each of (N, T) tokens; on a CPU, where it is slow, on the first ones."""
    model = _model(folder)
    some = samples[: _num_sequences(model, samples)]
    bits = plan.cache_level.bits
    fresh_cache = (lambda: None) if bits is None else partial(packed_cache, model, bits, head_size(folder))
    kl, _ = sequence_quality(_logits(model, some, fresh_cache), some.split(1), teacher, family.loss)
    return "MLX", kl


def mlx_logits(folder: Path, tokens: Tensor) -> Iterator[Tensor]:
    """Yield mlx-lm's (1, T, V) logits of each row of (N, T) tokens."""
    return _logits(_model(folder), tokens, lambda: None)


def _model(folder: Path) -> Any:
    import mlx.core as mx
    from mlx_lm.utils import load_model

    model, _ = load_model(folder)
    model.set_dtype(mx.float32)
    return model


def _logits(model: Any, tokens: Tensor, fresh_cache: Callable[[], Any]) -> Iterator[Tensor]:
    import mlx.core as mx
    import numpy as np

    for row in tokens.split(1):
        yield torch.from_numpy(np.array(model(mx.array(row.numpy()), cache=fresh_cache())))


def packed_cache(model: Any, bits: int, width: int) -> list[Any]:
    """Return mlx-lm's own cache of keys and values in so many bits, empty.

    A head has `width` values. Scales and biases are rounded to 16 bits, as they are in a model that is not told to
    compute in 32.
    """
    import mlx.core as mx
    from mlx_lm.models.cache import QuantizedKVCache, make_prompt_cache

    class Cache(QuantizedKVCache):  # type: ignore[misc]
        def update_and_fetch(self, keys: Any, values: Any) -> Any:
            found = super().update_and_fetch(keys, values)
            return tuple((codes, *(x.astype(mx.bfloat16).astype(x.dtype) for x in affine)) for codes, *affine in found)

    return [Cache(mlx_group(width), bits) for _ in make_prompt_cache(model)]


def head_size(folder: Path) -> int:
    """Return how many values a head of an export has."""
    config = read_config(folder)
    return int(config.get("head_dim") or config["hidden_size"] // config["num_attention_heads"])


def _num_sequences(model: Any, tokens: Tensor) -> int:
    import mlx.core as mx
    from mlx_lm.utils import get_total_parameters

    if mx.default_device() == mx.Device(mx.gpu):
        return len(tokens)
    work = 2 * int(get_total_parameters(model)) * tokens.shape[1]  # multiplications and additions of a sequence
    return max(1, _CPU_WORK // work)
