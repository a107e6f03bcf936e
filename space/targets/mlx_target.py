"""MLX: affine integers in groups, for linear layers, embeddings, heads and experts, as mlx-lm loads them."""

from space.codings.affine_coding import AFFINE_CODINGS, GROUP_OF
from space.codings.cache_coding import MLX_CACHE
from space.codings.coding_table import CODINGS
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level
from space.targets.target import Target

_WORD, _MATRIX = 32, 2
_EXPERTS = ".mlp.experts."
_PROJECTIONS = {"gate_up_proj": ("gate_proj", "up_proj"), "down_proj": ("down_proj",)}
"""Parameter of transformers that holds all experts -> layers of mlx-lm"""
ARCHITECTURES = (
    *("CohereForCausalLM", "Cohere2ForCausalLM", "Ernie4_5ForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM"),
    *("Gemma3ForCausalLM", "Glm4ForCausalLM", "GraniteForCausalLM", "HunYuanDenseV1ForCausalLM", "LlamaForCausalLM"),
    *("MistralForCausalLM", "NemotronForCausalLM", "Olmo2ForCausalLM", "OlmoeForCausalLM", "PhiForCausalLM"),
    *("Phi3ForCausalLM", "Qwen2ForCausalLM", "Qwen2MoeForCausalLM", "Qwen3ForCausalLM", "Qwen3MoeForCausalLM"),
    *("SeedOssForCausalLM", "SmolLM3ForCausalLM", "StableLmForCausalLM", "Starcoder2ForCausalLM"),
)
"""Models whose layers have one name in transformers and in mlx-lm, and that both compute alike."""
WITH_WINDOWS = ("Cohere2ForCausalLM", "Gemma3ForCausalLM")
"""Of these, those whose attention mlx-lm lets slide."""


def _why_not(level: Level) -> str | None:
    if level.is_dense or level.coding in GROUP_OF:
        return None
    return f"holds affine integers only (--kind {','.join(GROUP_OF)})"


def paths_of(module: ModuleInfo) -> tuple[str, ...]:
    """Return what mlx-lm calls the layers that a module is: experts are one layer for each projection.

    An expert's rows are those of its parts, one part after the other. It has none of what it does not store so.
    """
    site = module.site
    if site is None or (
        site.sources == (f"{module.name}.weight",) and len(site.shape) == _MATRIX and not site.transposed
    ):
        return (module.name,)
    parent, _, projection = module.parameter.rpartition(_EXPERTS)
    if not is_stack(module) or site.transposed:
        return ()
    return tuple(f"{parent}.mlp.switch_mlp.{name}" for name in _PROJECTIONS.get(projection, ()))


def is_stack(module: ModuleInfo) -> bool:
    """Tell whether it is all experts of a block."""
    return module.site is not None and module.site.num_experts is not None and module.site.expert is None


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    return bool(paths_of(module)) and CODINGS[level.coding].fits(module.out_features, module.in_features)


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    assert level.bits is not None  # noqa: S101 (dense levels are stored as they are)
    _, *rest = CODINGS[level.coding].layout(module.out_features, module.in_features, level.bits)
    words = module.out_features, module.in_features * level.bits // _WORD
    return TensorInfo("weight", words, "U32"), *rest


MLX = Target(
    name="mlx",
    why_not=_why_not,
    is_legal=_is_legal,
    layout=_layout,
    kinds=tuple(coding.name for coding in AFFINE_CODINGS),
    cache_coding=MLX_CACHE.name,
    packages=("mlx", "mlx_lm"),
)
