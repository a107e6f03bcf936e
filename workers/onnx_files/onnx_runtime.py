"""ONNX Runtime and onnxruntime-genai themselves: the answers of a file, its tokenizer, what it generates.

Shape legend: B sequences, T tokens, V vocabulary, H heads of keys and values, D size of a head.
"""

import json
from collections.abc import Callable, Iterable, Iterator, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import VerificationError
from workers.onnx_files.graph_files import DECODER_FILE, ENCODER_FILE, GRAPH_FILE, SETTINGS_FILE


def runtime_logits(folder: Path, sequences: Tensor) -> Iterator[Tensor]:
    """Yield the (1, T, V) float32 logits of each of (B, T) sequences, from an empty cache, on one thread.

    Raises:
        VerificationError: ONNX Runtime cannot load the file.

    """
    session = _session(folder / GRAPH_FILE)
    names = {given.name for given in session.get_inputs()}
    empty = dict.fromkeys((name for name in names if name.startswith("past_key_values.")), _empty_cache(folder))
    for tokens in sequences.cpu().split(1):
        given: dict[str, Any] = {"input_ids": tokens.numpy(), "attention_mask": torch.ones_like(tokens).numpy()}
        if "position_ids" in names:
            given["position_ids"] = torch.arange(tokens.shape[1])[None].numpy()
        (logits,) = session.run(["logits"], given | empty)
        yield torch.from_numpy(logits)


def runtime_answers(folder: Path, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Yield what an encoder's graph answers to each batch of inputs, by name; masks that are not given hide nothing.

    Raises:
        VerificationError: ONNX Runtime cannot load the file.

    """
    session = _session(folder / GRAPH_FILE)
    names = [answer.name for answer in session.get_outputs()]
    for given in batches:
        shape = next(iter(given.values())).shape
        rest = {"attention_mask": torch.ones(shape).long(), "token_type_ids": torch.zeros(shape).long()}
        inputs = {asked.name: (rest | dict(given))[asked.name].cpu().numpy() for asked in session.get_inputs()}
        yield dict(zip(names, map(torch.from_numpy, session.run(names, inputs)), strict=True))


def speech_answers(folder: Path, batches: Iterable[Mapping[str, Tensor]]) -> Iterator[dict[str, Tensor]]:
    """Yield the logits of transcripts that are forced, (B, T) `decoder_input_ids`, on (B, mels, frames) of sound.

    Raises:
        VerificationError: ONNX Runtime cannot load the files.

    """
    encoder, decoder = (_session(folder / name) for name in (ENCODER_FILE, DECODER_FILE))
    (sound,), answers = encoder.get_inputs(), [answer.name for answer in encoder.get_outputs()]
    for given in batches:
        features, tokens = (given[name].cpu().numpy() for name in ("input_features", "decoder_input_ids"))
        heard = dict(zip(answers, encoder.run(None, {sound.name: features.astype("float32")}), strict=True))
        inputs = {decoder.get_inputs()[0].name: tokens.astype("int32")}
        for asked in decoder.get_inputs()[1:]:
            known = heard.get(asked.name.replace("past_", "present_"))
            empty = torch.zeros(len(tokens), asked.shape[1], 0, asked.shape[3])
            inputs[asked.name] = empty.numpy() if known is None else known
        (logits,) = decoder.run(["logits"], inputs)
        yield {"logits": torch.from_numpy(logits)}


def _session(graph: Path) -> Any:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1
    try:
        return onnxruntime.InferenceSession(graph, options, providers=["CPUExecutionProvider"])
    except Exception as error:  # its errors have no class of their own
        raise VerificationError(f"ONNX Runtime cannot load {graph.name}: {error}") from error


def _empty_cache(folder: Path) -> Any:
    """Return the (1, H, 0, D) keys or values of one layer before the first token."""
    decoder = json.loads((folder / SETTINGS_FILE).read_text(encoding="utf-8"))["model"]["decoder"]
    return torch.zeros(1, decoder["num_key_value_heads"], 0, decoder["head_size"]).numpy()


def generated(folder: Path, text: str, count: int) -> tuple[list[int], list[int]]:
    """Return the ids of a text as onnxruntime-genai's tokenizer has them, and the likeliest tokens that follow.

    Raises:
        VerificationError: it cannot load the folder.

    """

    def begin(_: Any, generator: Any, prompt: list[int]) -> None:
        generator.append_tokens(prompt)

    return _generated(folder, text, begin, count)


def written_down(folder: Path, sound: Tensor, prompt: list[int], count: int) -> list[int]:
    """Return the likeliest tokens that follow a prompt, as onnxruntime-genai hears (1, mels, frames) of sound.

    Raises:
        VerificationError: it cannot load the folder.

    """

    def begin(genai: Any, generator: Any, prompt: list[int]) -> None:
        given = genai.NamedTensors()
        given["audio_features"] = sound.numpy()
        given["input_ids"] = torch.tensor([prompt], dtype=torch.int32).numpy()
        generator.set_inputs(given)

    return _generated(folder, prompt, begin, count, num_beams=1, batch_size=1)[1]


def sound_shape(folder: Path) -> tuple[int, int]:
    """Return how many mel bins and frames a graph hears."""
    _, bins, frames = _session(folder / ENCODER_FILE).get_inputs()[0].shape
    return bins, frames


def _generated(
    folder: Path, given: str | list[int], begin: Callable[[Any, Any, list[int]], None], count: int, **options: int
) -> tuple[list[int], list[int]]:
    """Return the ids of a prompt, by genai's own tokenizer where it is a text, and the likeliest that follow."""
    import onnxruntime_genai as genai

    try:
        model = genai.Model(str(folder))
        prompt = [*map(int, genai.Tokenizer(model).encode(given))] if isinstance(given, str) else given
        parameters = genai.GeneratorParams(model)
        parameters.set_search_options(max_length=len(prompt) + count, do_sample=False, **options)
        generator = genai.Generator(model, parameters)
        begin(genai, generator, prompt)
        while not generator.is_done():
            generator.generate_next_token()
    except Exception as error:  # its errors have no class of their own
        raise VerificationError(f"onnxruntime-genai cannot run the folder: {error}") from error
    return prompt, [*map(int, generator.get_sequence(0)[len(prompt) :])]
