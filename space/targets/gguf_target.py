"""GGUF, the files of llama.cpp, Ollama and LM Studio: ggml's types, any of them for any weight that its blocks divide.

What is left alone (norms, biases) is stored in float32, since llama.cpp's kernels take nothing else there.
"""

from dataclasses import replace

from space.codings.cache_coding import GGML_CACHE
from space.codings.coding_table import CODINGS
from space.codings.ggml_types import GGML_TYPES
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level
from space.targets.site_groups import of_one_parameter
from space.targets.target import Target

_USUAL = ("q2_K", "q3_K", "q4_K", "q5_K", "q6_K", "q8_0")  # one of each bit-width: what uniform plans are made of


def _why_not(level: Level) -> str | None:
    return None if level.is_dense or level.coding in GGML_TYPES else "holds ggml's types only, such as q4_K and iq4_xs"


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    return CODINGS[level.coding].fits(module.out_features, module.in_features)


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    assert level.bits is not None  # noqa: S101 (dense levels are stored as they are)
    return CODINGS[level.coding].layout(module.out_features, module.in_features, level.bits)


GGUF = Target(
    name="gguf",
    why_not=_why_not,
    is_legal=_is_legal,
    layout=_layout,
    groups=of_one_parameter,
    other=lambda tensor: replace(tensor, dtype="F32"),
    kinds=(*_USUAL, *(name for name, entry in GGML_TYPES.items() if name not in _USUAL and entry.is_default)),
    cache_value_bytes=2,  # float16, whatever the weights are
    cache_coding=GGML_CACHE.name,
    packages=("libggml", "gguf"),
)
