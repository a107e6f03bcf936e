"""Which models are written as ONNX, and who makes their graphs."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.errors import ModelError
from workers.models.model_files import read_config


@dataclass(frozen=True, slots=True)
class GraphKind:
    """Models whose graphs one builder makes.

    Attributes:
        architectures: transformers' classes whose graphs were held against transformers here.
        needed: the file that the runtime reads beside the graph, and why; None: none.
        write: (model's folder, folder) -> the dense graphs there, their tensors named as `graph_files` says.

    """

    architectures: tuple[str, ...]
    needed: tuple[str, str] | None
    write: Callable[[Path, Path], None]


def _write_decoder(model_folder: Path, folder: Path) -> None:
    from workers.onnx_files.decoder_graph import write_decoder_graph

    write_decoder_graph(model_folder, folder)


def _write_encoder(model_folder: Path, folder: Path) -> None:
    from workers.onnx_files.encoder_graph import write_encoder_graph

    write_encoder_graph(model_folder, folder)


def _write_whisper(model_folder: Path, folder: Path) -> None:
    from workers.onnx_files.whisper_graphs import write_whisper_graphs

    write_whisper_graphs(model_folder, folder)


_DECODERS = ("Llama", "Mistral", "Qwen2", "Qwen3", "Granite", "Ernie4_5", "HunYuanDenseV1")
DECODERS = GraphKind(
    architectures=tuple(f"{name}ForCausalLM" for name in _DECODERS),
    needed=("tokenizer.json", "which onnxruntime-genai reads"),
    write=_write_decoder,
)
WHISPER = GraphKind(
    architectures=("WhisperForConditionalGeneration",),
    needed=("tokenizer.json", "which onnxruntime-genai reads"),
    write=_write_whisper,
)
_OF_TEXT = (
    *("Albert", "Bert", "Camembert", "DebertaV2", "DistilBert", "Electra", "MPNet", "ModernBert", "Roberta"),
    "XLMRoberta",
)
_HEADS = ("Model", "ForMaskedLM", "ForSequenceClassification")
ENCODERS = GraphKind(
    architectures=(
        *(f"{name}{head}" for name in _OF_TEXT for head in _HEADS),
        *("NomicBertModel", "ViTModel", "ViTForImageClassification", "BeitForImageClassification"),
        *("DeiTForImageClassificationWithTeacher", "CLIPVisionModel", "SiglipVisionModel"),
    ),
    needed=None,
    write=_write_encoder,
)
_PLACES, _SECONDS = 1500, 30  # of sound
KINDS = (DECODERS, WHISPER, ENCODERS)


def graph_of(folder: Path) -> GraphKind:
    """Return the kind of a model's graph.

    Raises:
        ModelError: nobody makes a graph of it here.

    """
    named = str(next(iter(read_config(folder).get("architectures") or ()), None))
    for kind in KINDS:
        if named in kind.architectures:
            return kind
    raise ModelError(
        f"{folder}: a {named} cannot be written as ONNX yet; --target onnx holds {', '.join(DECODERS.architectures)}, "
        f"Whisper, and encoders such as {', '.join(ENCODERS.architectures[:4])}, listed in docs/targets.md. "
        "Use --target packed."
    )


def check_model(folder: Path) -> None:
    """Refuse a model that has no graph here, or whose graph would not be what was searched.

    Raises:
        ModelError: names the part of it.

    """
    kind = graph_of(folder)
    if kind is WHISPER and (why := _no_whisper(read_config(folder))):
        raise ModelError(f"{folder}: it {why}, which onnxruntime-genai's graphs do not. Use --target packed.")
    if kind is DECODERS and read_config(folder).get("use_sliding_window"):
        raise ModelError(
            f"{folder}: its window slides from one layer on only (use_sliding_window), which the ONNX graph does not "
            "have. Use --target packed."
        )
    if kind.needed is not None and not (folder / kind.needed[0]).is_file():
        file, why = kind.needed
        raise ModelError(
            f"{folder}: there is no {file}, {why}. Save the tokenizer of the model with transformers beside it, or use "
            "--target packed."
        )


def _no_whisper(config: Mapping[str, Any]) -> str:
    """Return what a model does that the builder's graphs of Whisper do not; empty where it is nothing."""
    places = config.get("max_source_positions", _PLACES)
    if places != _PLACES:
        return f"hears {places / _PLACES * _SECONDS:g} seconds at once, not {_SECONDS}"
    if (activation := config.get("activation_function", "gelu")) != "gelu":
        return f"is no Whisper of OpenAI's: its activation is {activation}"
    return "scales embeddings" if config.get("scale_embedding") else ""
