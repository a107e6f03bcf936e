"""What llama.cpp calls a model: its architecture, the names of its tensors, how it orders rows of queries and keys.

Facts are those of llama.cpp's own converter (`conversion/llama.py`, `qwen.py`, `base.py`).
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from types import MappingProxyType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from space.errors import ModelError

_EXPERT = re.compile(r"\.experts\.\d+\.")
_LARGEST_GEMMAS = {"gemma2": 46, "gemma3": 62}
"""architecture -> blocks of its model of 27 B, whose scores are scaled by other heads than its own"""
_SLIDING_ROPE = {"rope_theta": 10000.0, "rope_type": "default"}
_ROPE_TYPES = ("default", "linear", "yarn", "llama3")


@dataclass(frozen=True, slots=True)
class GgufArchitecture:
    """One architecture.

    Attributes:
        name: as llama.cpp has it.
        pairs_neighbours: its rotary embedding turns neighbouring values, where transformers turns values that are half
            a head apart: rows of queries and keys stand in another order in the file.
        activation: of its MLPs, as transformers calls it.
        norms_from_one: transformers stores what norms add to one, the file what they multiply by.
        window_of: block -> whether its attention slides; None: no window slides in llama.cpp.

    """

    name: str
    pairs_neighbours: bool = False
    activation: str = "silu"
    norms_from_one: bool = False
    window_of: Callable[[int], bool] | None = None


_GEMMA = {"activation": "gelu_pytorch_tanh", "norms_from_one": True}
_GEMMA2 = GgufArchitecture("gemma2", window_of=lambda block: block % 2 == 0, **_GEMMA)  # type: ignore[arg-type]
_GEMMA3 = GgufArchitecture("gemma3", window_of=lambda block: block % 6 < 5, **_GEMMA)  # type: ignore[arg-type] # noqa: PLR2004
ARCHITECTURES: Mapping[str, GgufArchitecture] = MappingProxyType(
    {
        "LlamaForCausalLM": GgufArchitecture("llama", pairs_neighbours=True),
        "MistralForCausalLM": GgufArchitecture("llama", pairs_neighbours=True),
        "Qwen2ForCausalLM": GgufArchitecture("qwen2"),
        "Qwen3ForCausalLM": GgufArchitecture("qwen3"),
        "Qwen3MoeForCausalLM": GgufArchitecture("qwen3moe"),
        "Gemma2ForCausalLM": _GEMMA2,
        "Gemma3ForCausalLM": _GEMMA3,
        "Phi3ForCausalLM": GgufArchitecture("phi3"),
    }
)
"""transformers' class -> architecture"""


def load_config(folder: Path) -> Any:
    """Return a model's config as transformers reads it."""
    from transformers import AutoConfig

    return AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)


def architecture_of(folder: Path, config: Mapping[str, Any]) -> GgufArchitecture:
    """Return the architecture of a model.

    Raises:
        ModelError: it has none of the table, or a part that llama.cpp would run in another way.

    """
    named = next(iter(config.get("architectures") or ()), None)
    found = ARCHITECTURES.get(str(named))
    if found is None:
        raise ModelError(
            f"{folder}: a {named} cannot be written as GGUF yet; --target gguf holds {', '.join(ARCHITECTURES)}. "
            "Use --target packed."
        )
    rope = config.get("rope_parameters") or config.get("rope_scaling") or {}
    rope = rope.get("full_attention", rope)
    kind = rope.get("rope_type", rope.get("type", "default"))
    if kind not in _ROPE_TYPES:
        raise ModelError(
            f"{folder}: its rotary embedding is of the type {kind!r}, which is not written as GGUF; there are "
            f"{', '.join(_ROPE_TYPES)}. Use --target packed."
        )
    if config.get("use_sliding_window"):
        raise ModelError(f"{folder}: llama.cpp runs a {named} without its sliding window. Use --target packed.")
    activation = config.get("hidden_activation") or config.get("hidden_act") or found.activation
    if activation != found.activation:
        raise ModelError(f"{folder}: llama.cpp runs a {named} with {found.activation}, not {activation!r}.")
    if found.name == "qwen3moe":
        _check_experts(folder, config)
    return found


def check_attention(folder: Path, architecture: GgufArchitecture, config: Any) -> None:
    """Refuse attention that llama.cpp does in another way: which blocks slide, how scores are scaled and capped.

    Args:
        folder: for messages.
        architecture: of the model.
        config: as transformers reads it.

    Raises:
        ModelError: says what differs.

    """
    name, turned = architecture.name, getattr(config, "partial_rotary_factor", None)
    if (config.rope_parameters or {}).get("partial_rotary_factor", turned) not in (None, 1.0):
        raise ModelError(
            f"{folder}: only whole heads are turned in a {name} that is written here. Use --target packed."
        )
    if architecture.window_of is None:
        return
    slides = [kind == "sliding_attention" for kind in config.layer_types]
    if slides != [architecture.window_of(block) for block in range(len(slides))]:
        raise ModelError(f"{folder}: windows slide in other blocks of llama.cpp's {name}. Use --target packed.")
    is_largest = config.num_hidden_layers == _LARGEST_GEMMAS[name]
    scale = config.hidden_size // config.num_attention_heads if is_largest else config.head_dim
    if config.query_pre_attn_scalar != scale:
        told = f"divides scores by the root of {scale}, not of {config.query_pre_attn_scalar}"
        raise ModelError(f"{folder}: llama.cpp's {name} {told}. Use --target packed.")
    if (config.attn_logit_softcapping is None) != (name == "gemma3"):
        raise ModelError(f"{folder}: llama.cpp caps scores of attention in gemma2, and not in gemma3.")
    if name == "gemma3" and config.rope_parameters["sliding_attention"] != _SLIDING_ROPE:
        raise ModelError(f"{folder}: llama.cpp's {name} turns sliding windows by {_SLIDING_ROPE}. Use --target packed.")


def _check_experts(folder: Path, config: Mapping[str, Any]) -> None:
    """Refuse what llama.cpp's Qwen 3 mixtures have not. Raises ModelError."""
    if not config.get("norm_topk_prob", False):
        told = "makes the weights of a token's experts sum to one, which norm_topk_prob of config.json denies"
        raise ModelError(f"{folder}: llama.cpp {told}. Use --target packed.")
    if config.get("decoder_sparse_step", 1) != 1 or config.get("mlp_only_layers"):
        raise ModelError(f"{folder}: llama.cpp has experts in all blocks of such a model. Use --target packed.")


def tensor_names(architecture: str, num_blocks: int) -> Callable[[str], str]:
    """Return how tensors are renamed: stored name -> name in a file of an architecture of llama.cpp."""
    import gguf

    arch = next(arch for arch, name in gguf.MODEL_ARCH_NAMES.items() if name == architecture)
    table = gguf.get_tensor_name_map(arch, num_blocks)

    def renamed(name: str) -> str:
        name = without_expert(name)
        found = table.get_name(name, try_suffixes=(".weight", ".bias"))
        if found is None:
            raise ModelError(f"{name}: llama.cpp's {architecture} has no such tensor. Use --target packed.")
        return str(found)

    return renamed


def without_expert(name: str) -> str:
    """Return the name of a tensor that holds the same of all experts.

    >>> without_expert("model.layers.1.mlp.experts.12.up_proj.weight")
    'model.layers.1.mlp.experts.up_proj.weight'
    """
    return _EXPERT.sub(".experts.", name)


def num_heads_permuted(architecture: GgufArchitecture, config: Any, name: str) -> int | None:
    """Return of how many heads the rows of a tensor stand in another order in the file; None where in the same."""
    module = name.rpartition(".")[0].rpartition(".")[2]
    if not architecture.pairs_neighbours or module not in ("q_proj", "k_proj"):
        return None
    return int(config.num_attention_heads if module == "q_proj" else config.num_key_value_heads)


def in_file_order(rows: NDArray[Any], num_heads: int | None) -> NDArray[Any]:
    """Return (O, ...) rows in the order of the file: of each head, first and second halves alternate."""
    if num_heads is None:
        return rows
    halves = rows.reshape(num_heads, 2, len(rows) // num_heads // 2, *rows.shape[1:])
    return np.ascontiguousarray(halves.swapaxes(1, 2)).reshape(rows.shape)
