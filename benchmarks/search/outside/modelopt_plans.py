"""Plans of NVIDIA Model Optimizer's auto_quantize, for the allocation league.

    DIR/bin/python modelopt_plans.py --method gradient --model FOLDER --tokens FILE --targets 2.0,2.5 --out plans.json

Run by the interpreter that `make_env.py modelopt DIR` made. Scores are measured once; `get_auto_quantize_config` solves
the other targets from them. Methods, both the tool's: `gradient` scores every (group, bits) by the sum of
(dL/dy * (y_q - y))^2 and solves an integer program; `kl_div` measures the KL divergence with one group quantized and
bisects a threshold on the groups' KL. The tool ties q, k, v and gate, up; that is its design and stays.

Counted: a forward is one, a backward two. `gradient` runs under gradient checkpointing, so every block is forwarded
once more, and each of its linears once more for each bit-width, which also counts as a forward.
"""

import copy
import time
from collections import Counter
from typing import Any

import modelopt
import modelopt.torch.quantization as mtq
import torch
from peer import block_linears, choose_sequences, load_model, make_plan, read_arguments, write_result
from torch import Tensor, nn
from torch.nn.functional import cross_entropy

_BATCH = 4
_SUMMARY = {
    "gradient": "auto_quantize, gradient scores (its default), integer program",
    "kl_div": "auto_quantize, KL divergence of one group at a time, threshold search; no-quant priced as most bits",
}


def make_formats(bits: list[int], group_size: int) -> list[dict[str, Any]]:
    """Return one symmetric weight-only integer format for each bit-width."""
    return [
        {
            "quant_cfg": [
                {"quantizer_name": "*", "enable": False},
                {"quantizer_name": "*weight_quantizer", "cfg": {"num_bits": b, "block_sizes": {-1: group_size}}},
            ],
            "algorithm": "max",
        }
        for b in bits
    ]


class Steps:
    """The model's steps as auto_quantize calls them, with the tokens they cost."""

    def __init__(self) -> None:
        self.counts: Counter[str] = Counter()

    def forward(self, model: nn.Module, batch: Tensor) -> Tensor:
        """Return the (N, T, vocabulary) logits."""
        self.counts["forward"] += batch.numel()
        logits: Tensor = model(batch, use_cache=False).logits
        return logits

    def loss(self, logits: Tensor, batch: Tensor) -> Tensor:
        """Return the mean loss of the next token; its backward follows."""
        self.counts["backward"] += batch.numel()
        return cross_entropy(logits[:, :-1].flatten(0, 1), batch[:, 1:].flatten())

    def token_forwards(self, num_formats: int) -> int:
        """Return the cost: a scored token is also forwarded again, perturbed in every format, and twice backward."""
        return self.counts["forward"] + self.counts["backward"] * (1 + num_formats + 2)


def search(arguments: Any, model: nn.Module, rows: Tensor, steps: Steps) -> dict[str, Any]:
    """Calibrate and score once; return the tool's search state."""
    formats = make_formats(arguments.bits, arguments.group_size)
    gradient = arguments.method == "gradient"
    batches = list(rows.split(_BATCH))
    everything = {"module_name_patterns": ["*layers*"], "quantization_formats": formats, "allow_no_quant": not gradient}
    _, state = mtq.auto_quantize(
        model,
        constraints={
            "effective_bits": arguments.targets[-1],
            "cost": {"excluded_module_name_patterns": ["*lm_head*"]},
        },
        quantization_formats=formats,
        module_search_spaces=[everything],
        data_loader=batches,
        forward_step=steps.forward,
        loss_func=steps.loss if gradient else None,
        disabled_layers=["*lm_head*"],
        num_calib_steps=len(batches),
        num_score_steps=len(batches),
        method=arguments.method,
    )
    return dict(state)


def price_unquantized(state: dict[str, Any]) -> dict[str, Any]:
    """Return the state with the no-quant choice at the cost of the highest bits, as which the league stores it.

    Its threshold search needs the choice: where no format is below the threshold it falls back to the lowest bits.
    """
    state = copy.copy(state)
    state["candidate_stats"] = {name: dict(stats) for name, stats in state["candidate_stats"].items()}
    for stats in state["candidate_stats"].values():
        if stats["cost_weight"]:
            stats["costs"] = [*stats["costs"][:-1], stats["costs"][-2]]
    return state


def solve(state: dict[str, Any], target: float, highest: int) -> dict[str, int]:
    """Return the bits of every linear in the tool's solution for a target; no-quant is written as the highest bits."""
    config = mtq.get_auto_quantize_config(state, constraints={"effective_bits": target})
    names = {name for stats in state["candidate_stats"].values() for name in stats["module_names"] if "layers" in name}
    levels = dict.fromkeys(names, highest)
    for entry in config["quant_cfg"]:
        module, _, quantizer = entry["quantizer_name"].rpartition(".")
        if quantizer == "weight_quantizer" and entry["enable"] and module in levels:
            levels[module] = entry["cfg"]["num_bits"]
    return levels


def main() -> None:
    """Score once, solve every target, write."""
    arguments = read_arguments(__doc__ or "", list(_SUMMARY))
    torch.manual_seed(arguments.seed)
    rows = choose_sequences(arguments)
    model = load_model(arguments.model)
    sizes = block_linears(model)
    steps = Steps()
    started = time.perf_counter()
    state = search(arguments, model, rows, steps)
    scored = time.perf_counter() - started
    if arguments.method == "kl_div":
        state = price_unquantized(state)
    solutions = {target: solve(state, target, arguments.bits[-1]) for target in arguments.targets}
    seconds = time.perf_counter() - started
    plans = [make_plan(target, levels, sizes, arguments.bits) for target, levels in solutions.items()]
    result = {
        "tool": "nvidia-modelopt",
        "version": modelopt.__version__,
        "method": _SUMMARY[arguments.method],
        "token_forwards": steps.token_forwards(len(arguments.bits)),
        "counted_as": "forwards 1; a scored token of gradient also 1 recomputed, 1 for each bit-width, 2 backward",
        "seconds": seconds,
        "scoring_seconds": scored,
        "plans": plans,
    }
    write_result(arguments, result)


if __name__ == "__main__":
    main()
