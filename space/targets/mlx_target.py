"""MLX: affine integers in groups, for linear layers, embeddings and heads, as mlx-lm loads them on Apple's machines."""

from space.codings.affine_coding import AFFINE_CODINGS, GROUP_OF
from space.codings.coding_table import CODINGS
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level
from space.targets.target import Target

_WORD = 32
ARCHITECTURES = (
    *("CohereForCausalLM", "Cohere2ForCausalLM", "Ernie4_5ForCausalLM", "GemmaForCausalLM", "Gemma2ForCausalLM"),
    *("Gemma3ForCausalLM", "Glm4ForCausalLM", "GraniteForCausalLM", "HunYuanDenseV1ForCausalLM", "LlamaForCausalLM"),
    *("MistralForCausalLM", "NemotronForCausalLM", "Olmo2ForCausalLM", "PhiForCausalLM", "Phi3ForCausalLM"),
    *("Qwen2ForCausalLM", "Qwen3ForCausalLM", "SeedOssForCausalLM", "SmolLM3ForCausalLM", "StableLmForCausalLM"),
    "Starcoder2ForCausalLM",
)
"""Models whose layers have one name in transformers and in mlx-lm, and that both compute alike."""


def _why_not(level: Level) -> str | None:
    if level.is_dense or level.coding in GROUP_OF:
        return None
    return f"holds affine integers only (--kind {','.join(GROUP_OF)})"


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    return module.is_layer and CODINGS[level.coding].fits(module.out_features, module.in_features)


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
    packages=("mlx", "mlx_lm"),
)
