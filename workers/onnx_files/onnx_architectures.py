"""Which models are written as ONNX, and what the graph of onnxruntime-genai's builder calls their weights."""

from pathlib import Path

from space.errors import ModelError
from workers.models.model_files import read_config

ARCHITECTURES = tuple(f"{name}ForCausalLM" for name in ("Llama", "Mistral", "Qwen2", "Qwen3", "Granite"))
"""transformers' classes whose graphs were held against transformers here, each linear layer a product of its own"""

EMBEDDING = "model.embed_tokens"


def check_model(folder: Path) -> None:
    """Refuse a model that has no graph here, or whose graph would not be what was searched.

    Raises:
        ModelError: names the part of it.

    """
    config = read_config(folder)
    named = str(next(iter(config.get("architectures") or ()), None))
    if named not in ARCHITECTURES:
        raise ModelError(
            f"{folder}: a {named} cannot be written as ONNX yet; --target onnx holds {', '.join(ARCHITECTURES)}. "
            "Use --target packed."
        )
    if config.get("use_sliding_window"):
        raise ModelError(
            f"{folder}: its window slides from one layer on only (use_sliding_window), which the ONNX graph does not "
            "have. Use --target packed."
        )
    if not (folder / "tokenizer.json").is_file():
        raise ModelError(
            f"{folder}: there is no tokenizer.json, which onnxruntime-genai reads. Save the tokenizer of the model "
            "with transformers beside it, or use --target packed."
        )


def graph_name(module_name: str, *, is_lookup: bool) -> str:
    """Return what the graph calls the values of a module, as they are looked up or multiplied by."""
    if is_lookup:
        return f"{EMBEDDING}.weight"
    return f"{module_name.replace('.self_attn.', '.attn.')}.MatMul.weight"
