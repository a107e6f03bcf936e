"""What the scripts of the outside tools share: the command line, the calibration sequences, the checked result.

Run by each tool's own interpreter, so it imports torch, transformers and safetensors only. Shape legend: N sequences, T
tokens of a sequence.
"""

import argparse
import json
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import torch
from safetensors import safe_open
from torch import Tensor, nn
from transformers import AutoModelForCausalLM

_SLACK = 1e-6  # bits; the tools' budgets are floats


def read_arguments(description: str, methods: Sequence[str]) -> argparse.Namespace:
    """Return the parsed command line; `bits` and `targets` are sorted lists.

    Exits with a usage error where a target lies outside the bits, which no tool could meet.
    """
    parser = argparse.ArgumentParser(description=description, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True, help="folder of the Hugging Face checkpoint")
    parser.add_argument("--tokens", type=Path, required=True, help="safetensors file of (N, T) int64 splits")
    parser.add_argument("--split", default="search")
    parser.add_argument("--num-sequences", type=int, default=16)
    parser.add_argument("--bits", type=_numbers(int), default=[2, 3, 4, 5, 6, 8])
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument(
        "--targets", type=_numbers(float), required=True, help="average bits per weight, without scales"
    )
    parser.add_argument("--seed", type=int, default=0, help="chooses the sequences")
    parser.add_argument("--method", choices=methods, default=methods[0])
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    low, high = arguments.bits[0], arguments.bits[-1]
    if not low <= arguments.targets[0] <= arguments.targets[-1] <= high:
        parser.error(f"--targets: every target must lie between {low} and {high}, the lowest and highest of --bits")
    return arguments


def choose_sequences(arguments: argparse.Namespace) -> Tensor:
    """Return the (num_sequences, T) tokens that the seed's permutation of the split puts first.

    Raises:
        ValueError: the split has fewer sequences.

    """
    with safe_open(arguments.tokens, framework="pt") as file:
        rows: Tensor = file.get_tensor(arguments.split)
    if len(rows) < arguments.num_sequences:
        raise ValueError(f"{arguments.tokens}: {arguments.split} has {len(rows)} sequences, not enough")
    order = torch.randperm(len(rows), generator=torch.Generator().manual_seed(arguments.seed))
    return rows[order[: arguments.num_sequences]]


def load_model(folder: Path) -> nn.Module:
    """Return the model in float32: neither tool's scores should depend on bfloat16 sums on a CPU."""
    model: nn.Module = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, local_files_only=True)
    return model.eval()


def block_linears(model: nn.Module) -> dict[str, int]:
    """Return the weights of every linear inside the transformer blocks, by name: those the plans decide."""
    linears = {name: module for name, module in model.named_modules() if isinstance(module, nn.Linear)}
    return {name: module.weight.numel() for name, module in linears.items() if ".layers." in name}


def make_plan(target: float, levels: dict[str, int], sizes: dict[str, int], bits: Sequence[int]) -> dict[str, Any]:
    """Return a plan of the result; `average_bits` says what the tool made of the target.

    Raises:
        ValueError: the plan misses modules or has other bits.

    """
    if levels.keys() != sizes.keys() or not set(levels.values()) <= set(bits):
        missing = sorted(sizes.keys() - levels.keys())
        raise ValueError(f"target {target}: not a plan: bits {sorted(set(levels.values()))}, missing {missing}")
    average = sum(levels[name] * sizes[name] for name in sizes) / sum(sizes.values())
    return {"target_bits": target, "average_bits": round(average, 6), "levels": {name: levels[name] for name in sizes}}


def write_result(arguments: argparse.Namespace, result: dict[str, Any]) -> None:
    """Write the result with what was asked beside it, and print how it went."""
    asked = {key: getattr(arguments, key) for key in ("split", "num_sequences", "bits", "group_size", "seed")}
    arguments.out.parent.mkdir(parents=True, exist_ok=True)
    arguments.out.write_text(json.dumps(asked | result, indent=1) + "\n", encoding="utf-8")
    distinct = len({tuple(plan["levels"].values()) for plan in result["plans"]})
    over = sum(plan["average_bits"] > plan["target_bits"] + _SLACK for plan in result["plans"])
    cost = f"{result['token_forwards']:,} token-forwards, {result['seconds']:.1f} s"
    print(f"{arguments.out}: {len(result['plans'])} plans, {distinct} distinct, {over} above the target; {cost}")


def _numbers(kind: Callable[[str], float]) -> Callable[[str], list[float]]:
    return lambda text: sorted({kind(part) for part in text.split(",")})
