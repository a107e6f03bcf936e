"""Tokens per second of `packed` exports against the dense model, for each kind of level; CPU, one thread.

    python -m benchmarks.packed [--kinds all] [--model bundled] [--out FILE]
    python -m benchmarks.packed --model random-160m --out benchmarks/results/packed_160m.json

A model with every linear module and its embedding at one kind of level, exported and loaded as a user would:
prefill of 256 tokens at once, and decoding one token at a time with a cache. Packed and dense run in turn, and times
are CPU seconds of this process, so that what else a machine does matters little; ratios are medians of those pairs.
"""

import argparse
import json
import os
import platform
import statistics
import tempfile
import time
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks.levels.run import ROOT
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.targets.target_table import is_legal
from tightfit.export.checkpoint import write_checkpoint
from tightfit.export.source import Source
from workers.compress.build import BuiltLevel, build_levels
from workers.compress.module_statistics import Statistics
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.levels.level_store import LevelStore
from workers.models.model_files import model_digest, resolve_model
from workers.runtime.loaders.exported_loaders import load_exported
from workers.runtime.packed_modules import use_fast_kernels

RESULT = ROOT / "benchmarks" / "results" / "packed.json"
KINDS: Mapping[str, str] = {
    "integer, 3 bits": "b3-g64",
    "integer, 4 bits": "b4-g64",
    "rotated trellis, 3 bits": "b3-gch-t-h",
    "rotated trellis, 4 bits": "b4-gch-t-h",
    "EXL3, 3 bits": "exl3-3",
    "integer, 4 bits, half zeros": "b4-g64-s0.5",
    "integer, 3 bits, rank 8": "b3-g64-r8",
}
PREFILL = 256
DECODED = 8
_PAIRS = 7


@dataclass(frozen=True, slots=True)
class Speed:
    """What one kind of level does.

    Attributes:
        kind: in words.
        level: as text.
        size_share: bytes of all tensors over the dense model's.
        prefill, decode: tokens per CPU second.
        prefill_ratio, decode_ratio: median over pairs of packed over dense speed.

    """

    kind: str
    level: str
    size_share: float
    prefill: float
    decode: float
    prefill_ratio: float
    decode_ratio: float


def export(folder: Path, text: str, out: Path, device: str = "cpu") -> int:
    """Write the model with every module at a level, where that can hold it, else at 4 bits; return its bytes.

    Levels are rounded without calibration, and modules of one shape have one weight: how fast they run does not depend
    on either.
    """
    inventory, digest = inspect_model(folder), model_digest(folder)
    store, dense = LevelStore(out / "levels", digest, "speed"), load_model(folder)
    levels, known = {}, dict[tuple[torch.Size, Level], BuiltLevel]()
    for module in inventory.modules:
        tried = (parse_level(text), parse_level("b4-g64"), DENSE)
        level = levels[module.name] = next(v for v in tried if is_legal(module, v, "packed"))
        if not level.is_dense:
            weight = dense.get_submodule(module.name).weight
            if (weight.shape, level) not in known:
                inputs = Statistics(torch.eye(weight.shape[1])).to(device)
                (known[weight.shape, level],) = build_levels(weight.to(device, torch.float32), inputs, [level])
            store.write(module.name, known[weight.shape, level])
    (out / "export").mkdir()
    return write_checkpoint(out / "export", Source(folder, inventory, store, Plan.of(levels)), "packed").size_bytes


def prefill(model: Any, ids: Tensor) -> None:
    """Read a batch of one sequence."""
    model(input_ids=ids, use_cache=True)


def decode(model: Any, ids: Tensor) -> None:
    """Read a few tokens, then go on one token at a time."""
    cache = None
    for token in ids[:, :DECODED].unbind(1):
        cache = model(input_ids=token[:, None], past_key_values=cache, use_cache=True).past_key_values


def paired(
    models: Sequence[Any],
    work: Callable[[Any, Tensor], None],
    ids: Tensor,
    clock: Callable[[], float] = time.process_time,
) -> list[list[float]]:
    """Return seconds, of a clock, of each model's runs, taken in turn after one that does not count."""
    seconds: list[list[float]] = [[] for _ in models]
    for turn in range(_PAIRS + 1):
        for model, own in zip(models, seconds, strict=True):
            started = clock()
            work(model, ids)
            own.extend([clock() - started] if turn else [])
    return seconds


def speed(kind: str, text: str, folder: Path, dense: Any, ids: Tensor) -> Speed:
    """Export, load and run one kind of level beside the dense model."""
    with tempfile.TemporaryDirectory() as out:
        size = export(folder, text, Path(out))
        packed, problems = load_exported(Path(out) / "export")
    assert not problems, problems  # noqa: S101 (our own export)
    use_fast_kernels(packed, fast=True)  # as users have them
    found = {}
    for name, work, count in (("prefill", prefill, PREFILL), ("decode", decode, DECODED)):
        own, other = paired((packed, dense), work, ids)
        found[name] = round(count / statistics.median(own), 1)
        found[f"{name}_ratio"] = round(statistics.median(b / a for a, b in zip(own, other, strict=True)), 3)
    return Speed(kind, text, round(size / inspect_model(folder).dense_bytes, 3), **found)


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--kinds", default="all", help="texts of levels with commas between them")
    parser.add_argument("--model", default="bundled", help="or random-160m, a Llama of 160 M random weights, tied")
    parser.add_argument("--out", type=Path, default=RESULT)
    options = parser.parse_args()
    torch.set_num_threads(1)
    wanted = set(KINDS.values()) if options.kinds == "all" else set(options.kinds.split(","))
    with tempfile.TemporaryDirectory() as made:
        folder = random_model(Path(made)) if options.model == "random-160m" else resolve_model(options.model, None)
        document = measured(folder, wanted)
    options.out.write_text(json.dumps({"model": options.model, **document}, indent=1) + "\n", encoding="utf-8")


def random_model(folder: Path) -> Path:
    """Save a Llama of 157 M weights, its head tied; how fast it runs does not depend on what they are."""
    import transformers

    torch.manual_seed(0)
    shape = {"hidden_size": 768, "intermediate_size": 3072, "num_hidden_layers": 14, "num_attention_heads": 12}
    config = transformers.LlamaConfig(**shape, vocab_size=32000, tie_word_embeddings=True)
    transformers.LlamaForCausalLM(config).to(torch.bfloat16).save_pretrained(folder)
    return folder


def measured(folder: Path, wanted: Collection[str]) -> dict[str, Any]:
    """Return the speed of each kind of level that is wanted, beside the dense model's."""
    dense, ids = load_model(folder), torch.arange(PREFILL)[None] % 97 + 5
    document: dict[str, Any] = {
        "machine": {"processor": platform.processor() or platform.machine(), "threads": 1, "gpu": "not measured"},
        "load_average": os.getloadavg()[0],
        "rows": [],
    }
    with torch.no_grad():
        for kind, text in KINDS.items():
            if text in wanted:
                document["rows"].append(asdict(speed(kind, text, folder, dense, ids)))
                print(document["rows"][-1], flush=True)
    return document


if __name__ == "__main__":
    main()
