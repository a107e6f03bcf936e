"""How a fresh process loads what was exported, by target: the model as searches run it, its tokenizer, its runtime."""

from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.plan import Plan
from workers.devices import Device, compute_dtype
from workers.families.family import Family
from workers.onnx_files.graph_files import is_generated, is_spoken_to
from workers.runtime.loaders.gguf_loader import gguf_tokenizer_problems, in_llama_cpp, load_gguf
from workers.runtime.loaders.mlx_loader import in_mlx, load_mlx
from workers.runtime.loaders.onnx_loader import (
    in_onnx_runtime,
    load_onnx,
    onnx_speech_problems,
    onnx_tokenizer_problems,
)
from workers.runtime.loaders.vllm_loader import in_compressed_tensors, load_for_vllm
from workers.runtime.packed_modules import use_fast_kernels

Problems = dict[str, list[str]]
"""kind of what is wrong -> names"""


@dataclass(frozen=True, slots=True)
class ExportedLoader:
    """How exports of a target are loaded.

    Attributes:
        load: (searched model's folder, export, device, class of transformers, plan) -> the model, and missing,
            unexpected and mismatched keys.
        tokenizer_problems: (searched model's folder, export) -> how its tokenizer differs.
        in_runtime: (export, samples, the dense model's answers, the family, plan) -> the target's own runtime and the
            KL of its logits on each sample, or on the first ones where it is slow; None where it is not installed, or
            is what `load` loads with.

    """

    load: Callable[[Path, Path, Device, str, Plan], tuple[Any, Problems]]
    tokenizer_problems: Callable[[Path, Path], Problems]
    in_runtime: Callable[[Path, Any, Any, Family, Plan], tuple[str, list[float]] | None]


def load_exported(folder: Path, device: Device = "cpu", loader: str = "AutoModelForCausalLM") -> tuple[Any, Problems]:
    """Return the model as searches run it, and the loader's report of missing, unexpected and mismatched keys."""
    import transformers

    import workers.runtime.exl3_hook
    import workers.runtime.transformers_hook  # noqa: F401 (they register formats)

    model, report = getattr(transformers, loader).from_pretrained(
        folder,
        dtype=compute_dtype(device),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    use_fast_kernels(model, fast=False)
    return model.eval().to(device), {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}


def tokenizer_problems(source: Path, exported: Path) -> Problems:
    """Return how an export's tokenizer differs from the searched model's, where that has one."""
    from transformers import AutoTokenizer

    def load(folder: Path) -> Any:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)

    try:
        searched = load(source)
    except Exception:  # noqa: BLE001 (a model without a tokenizer that loads here promises none)
        return {}
    try:
        found = load(exported)
    except Exception as error:  # noqa: BLE001 (tokenizers raise whatever they like)
        return {"tokenizer": [f"cannot be loaded ({first_line(error)})"]}
    differs = []
    if found.get_vocab() != searched.get_vocab():
        differs.append("its vocabulary is not the searched model's")
    if getattr(found, "chat_template", None) != getattr(searched, "chat_template", None):
        differs.append("its chat template is not the searched model's")
    return {"tokenizer": differs} if differs else {}


def first_line(error: Exception) -> str:
    """Return the first line of what an error says."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def _load_folder(_: Path, exported: Path, device: Device, loader: str, __: Plan) -> tuple[Any, Problems]:
    return load_exported(exported, device, loader)


def _onnx_tokenizer_problems(source: Path, exported: Path) -> Problems:
    if is_generated(exported):
        return onnx_tokenizer_problems(source, exported)
    spoken = onnx_speech_problems(source, exported) if is_spoken_to(exported) else {}
    return tokenizer_problems(source, exported) | spoken


HUGGING_FACE = ExportedLoader(_load_folder, tokenizer_problems, lambda *_: None)
LOADERS = {
    "packed": HUGGING_FACE,
    "compressed-tensors": HUGGING_FACE,
    "gguf": ExportedLoader(load_gguf, gguf_tokenizer_problems, in_llama_cpp),
    "exl3": HUGGING_FACE,
    "onnx": ExportedLoader(load_onnx, _onnx_tokenizer_problems, in_onnx_runtime),
    "mlx": ExportedLoader(load_mlx, tokenizer_problems, in_mlx),
    "vllm": ExportedLoader(load_for_vllm, tokenizer_problems, in_compressed_tensors),
}
"""target -> loader"""
