"""An ONNX export in a fresh process: dense in transformers with the weights of the files, and in ONNX Runtime itself.

ONNX Runtime runs the files as they are, so that it is held against both.
"""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import torch
from torch import Tensor

from space.inventory import ModuleInfo
from space.level import Level
from space.plan import Plan
from workers.devices import Device
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import Teacher
from workers.families.family import Family
from workers.kernels.inputs.input_rounding import round_inputs
from workers.onnx_files.graph_files import graphs_in, is_generated, is_spoken_to
from workers.onnx_files.onnx_runtime import (
    generated,
    runtime_answers,
    runtime_logits,
    sound_shape,
    speech_answers,
    written_down,
)
from workers.onnx_files.onnx_tensors import OnnxTensor, read_tensors
from workers.onnx_files.packed_graph import stored_names
from workers.runtime.loaders.filled_model import filled_model
from workers.samples.teacher_forced import decoding_of
from workers.tasks import BATCH

_DTYPES = {"F32": torch.float32, "F16": torch.float16, "BF16": torch.bfloat16, "U8": torch.uint8}
_PROBE = "The quick brown fox, in 1984: naïve café?\n"
_NEW_TOKENS = 8
_TIE = 1e-3  # by which the likeliest of two tokens may change places


def load_onnx(source: Path, folder: Path, device: Device, loader: str, plan: Plan) -> tuple[Any, dict[str, list[str]]]:
    """Return the model with the weights that the files hold, and missing and mismatched keys."""
    stored = {tensor.info.name: tensor for graph in graphs_in(folder) for tensor in read_tensors(graph)}

    def read(module: ModuleInfo) -> Tensor:
        level = plan[module.name]
        return _values(module, level, *(stored[name] for name in stored_names(module, level)))

    model, problems = filled_model(source, device, loader, read)
    round_inputs(model, plan)
    return model, problems


def _values(module: ModuleInfo, level: Level, *tensors: OnnxTensor) -> Tensor:
    """Return the (N, K) weight that ONNX Runtime makes of a module's tensors; see `packed_graph`."""
    if level.is_dense:
        return _load(tensors[0])
    codes, scales = map(_load, tensors)
    assert level.bits is not None  # noqa: S101 (it is not dense)
    in_a_byte = 8 // level.bits
    shifts = torch.arange(in_a_byte, dtype=torch.uint8) * level.bits
    codes = (codes.unsqueeze(-1) >> shifts) & (2**level.bits - 1)
    blocks = codes.reshape(*scales.shape, -1).float() - 2 ** (level.bits - 1)
    values: Tensor = blocks * scales.float().unsqueeze(-1)
    return values.reshape(module.weight.shape)


def _load(tensor: OnnxTensor) -> Tensor:
    found: Tensor = torch.frombuffer(bytearray(tensor.load()), dtype=_DTYPES[tensor.info.dtype])
    return found.view(tensor.info.shape)


def onnx_tokenizer_problems(source: Path, exported: Path) -> dict[str, list[str]]:
    """Return what onnxruntime-genai does in another way: how it reads a text, and how it goes on with its cache."""
    from transformers import AutoTokenizer

    searched = AutoTokenizer.from_pretrained(source, trust_remote_code=False, local_files_only=True)
    prompt, followed = generated(exported, _PROBE, _NEW_TOKENS)
    found = {}
    if prompt != searched(_PROBE)["input_ids"]:
        found["tokenizer"] = ["onnxruntime-genai splits text into other tokens"]
    (logits,) = runtime_logits(exported, torch.tensor([prompt + followed]))
    return found | _cache_problems(logits, prompt, followed)


def onnx_speech_problems(source: Path, exported: Path) -> dict[str, list[str]]:
    """Return how onnxruntime-genai goes on with its cache in another way, after what it is told of a noise."""
    bins, frames = sound_shape(exported)
    noise = torch.randn(1, bins, frames, generator=torch.Generator().manual_seed(0))
    prompt = [*decoding_of(source).prefix]
    followed = written_down(exported, noise, prompt, _NEW_TOKENS)
    given = {"input_features": noise, "decoder_input_ids": torch.tensor([prompt + followed])}
    (answer,) = speech_answers(exported, [given])
    return _cache_problems(answer["logits"], prompt, followed)


def _cache_problems(logits_1tv: Tensor, prompt: list[int], followed: list[int]) -> dict[str, list[str]]:
    """Return whether a token that followed is not the likeliest without a cache."""
    before = logits_1tv[0, len(prompt) - 1 : -1]
    if bool((before.amax(-1) - before.gather(-1, torch.tensor(followed)[:, None])[:, 0] > _TIE).any()):
        return {"generation": ["onnxruntime-genai goes on in another way than the graph without its cache"]}
    return {}


def in_onnx_runtime(
    folder: Path, samples: Any, teacher: Teacher, family: Family, _plan: Plan
) -> tuple[str, list[float]] | None:
    """Return the KL divergence of ONNX Runtime's own answers to each sample."""
    if is_generated(folder):
        batches = samples.split(1)
        answers = runtime_logits(folder, samples)
    else:
        batches = samples.split(BATCH)
        answered = speech_answers if is_spoken_to(folder) else runtime_answers
        given = answered(folder, map(family.inputs, batches))
        answers = (family.answers(SimpleNamespace(**found)) for found in given)
    kl, _ = sequence_quality(answers, batches, teacher, family.loss)
    return "ONNX Runtime", kl
