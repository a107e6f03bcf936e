"""A GGUF export in a fresh process: dense in transformers by the file's own fields, and in llama.cpp where it is here.

What searches measured rounds inputs as llama.cpp's kernels do, so the model that transformers makes of the file is
given the same rounding; llama.cpp itself is held against the same record.
"""

from pathlib import Path
from typing import Any

from torch import Tensor

from space.plan import Plan
from workers.devices import Device, compute_dtype
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import Teacher
from workers.families.family import Family
from workers.gguf.gguf_architectures import load_config
from workers.gguf.gguf_fields import head_size, rope_of
from workers.gguf.gguf_tokenizer import token_fields
from workers.gguf.llama_cpp import is_installed, opened
from workers.kernels.inputs.input_rounding import round_inputs
from workers.kernels.key_values.remembering import remember_by

_NOT_READ = (
    *("layer_types", "sliding_window", "query_pre_attn_scalar", "attn_logit_softcapping", "final_logit_softcapping"),
    "pad_token_id",
)
"""fields of configs that transformers does not read out of a GGUF file, or not for all architectures"""


def load_gguf(source: Path, folder: Path, device: Device, loader: str, plan: Plan) -> tuple[Any, dict[str, list[str]]]:
    """Return the model as searches run it, and missing, unexpected and mismatched keys.

    Its config is that of the file's fields, but for what transformers does not read there: the size of a head, that of
    an expert, how a rotary embedding is scaled, and how windows slide and scores are capped.
    """
    import transformers

    name, searched = _file(folder).name, load_config(source)
    config = transformers.AutoConfig.from_pretrained(folder, gguf_file=name, local_files_only=True)
    config.head_dim = head_size(searched)
    if hasattr(searched, "moe_intermediate_size"):
        config.moe_intermediate_size = searched.moe_intermediate_size
    if rope_of(searched) is not searched.rope_parameters or rope_of(searched).get("rope_type", "default") != "default":
        config.rope_parameters = searched.rope_parameters
    for name_of_field in _NOT_READ:
        if hasattr(searched, name_of_field):
            setattr(config, name_of_field, getattr(searched, name_of_field))
    model, report = getattr(transformers, loader).from_pretrained(
        folder,
        config=config,
        gguf_file=name,
        dtype=compute_dtype(device),
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    model.set_experts_implementation("eager")  # whose products are followed
    remember_by(model, plan)
    round_inputs(model, plan)
    return model.eval().to(device), {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}


def _file(folder: Path) -> Path:
    return next(folder.glob("*.gguf"))


def gguf_tokenizer_problems(source: Path, exported: Path) -> dict[str, list[str]]:
    """Return how the tokenizer in a file differs from the searched model's; by llama.cpp itself where it is here."""
    from transformers import AutoTokenizer

    searched = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    tokens, template = token_fields(_file(exported))
    added = set(searched.get_added_vocab())
    differs = []
    if any(tokens[at] != text for text, at in searched.get_vocab().items() if text not in added):
        differs.append("its vocabulary is not the searched model's")
    if template != getattr(searched, "chat_template", None):
        differs.append("its chat template is not the searched model's")
    if is_installed():
        with opened(_file(exported), _PROBE_POSITIONS) as runtime:
            if runtime.tokenize(_PROBE) != searched(_PROBE, add_special_tokens=False)["input_ids"]:
                differs.append("llama.cpp splits text into other tokens")
    return {"tokenizer": differs} if differs else {}


def in_llama_cpp(
    folder: Path, tokens: Tensor, teacher: Teacher, family: Family, plan: Plan
) -> tuple[str, list[float]] | None:
    """Return the KL divergence of llama.cpp's own logits on each of (N, T) tokens, where it is installed."""
    if not is_installed():
        return None
    with opened(_file(folder), tokens.shape[1], cache=plan.cache_level) as runtime:
        kl, _ = sequence_quality(runtime.logits(tokens), tokens.split(1), teacher, family.loss)
    return "llama.cpp", kl


_PROBE = (
    """def f(x): return {"a": [1, 22, 333, 4444], 'b\\'s': x**2}  # I'll, we've  it's\n\n    Grüße, žluťoučký kůň; """
    """日本語のテキスト 한국어 ελληνικά عربى 🦙\t\tend  \n\n\n   and 3.14159 != 10,000 ... ???!!! __init__\n"""
)
_PROBE_POSITIONS = 256
