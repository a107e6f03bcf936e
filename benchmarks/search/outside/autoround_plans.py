"""Plans of Intel AutoRound's AutoScheme (arXiv 2512.04746), for the allocation league.

    DIR/bin/python autoround_plans.py --model FOLDER --tokens FILE --targets 2.0,2.5,3.0 --seed 0 --out plans.json

Run by the interpreter that `make_env.py autoround DIR` made. AutoScheme gives every (linear, bits) the delta-loss score
sum |dL/dW_q * (W - W_q)| and solves each budget by an exact dynamic program. Both are the tool's; scores are measured
once, since its own cache serves the later targets.

Counted: every token that enters the model as one forward, as one more when its blocks are replayed with gradients, and
as two for the backward through the replay.
"""

import gc
import os
import tempfile
import time
from collections import Counter
from typing import Any

os.environ["AR_DISABLE_DATASET_SUBPROCESS"] = "1"  # the sequences are in this process

import auto_round
import datasets
import torch
from auto_round.auto_scheme.gen_auto_scheme import AutoScheme, GenScheme
from auto_round.calib_dataset import register_dataset
from auto_round.schemes import QuantizationScheme
from peer import block_linears, choose_sequences, load_model, make_plan, read_arguments, write_result
from torch import Tensor, nn
from transformers import AutoTokenizer

_PASSES = 4  # forward, replay, backward twice
_DATASET = "allocation-league"


def register_sequences(rows: Tensor) -> None:
    """Make the (N, T) sequences known to AutoRound as a data set."""
    columns = {"input_ids": rows.tolist(), "attention_mask": torch.ones_like(rows).tolist()}

    def sequences(**_: Any) -> datasets.Dataset:
        return datasets.Dataset.from_dict(columns)

    register_dataset(_DATASET)(sequences)


def make_options(bits: list[int], group_size: int) -> list[QuantizationScheme]:
    """Return one symmetric weight-only integer scheme for each bit-width."""
    return [
        QuantizationScheme(bits=b, group_size=group_size, sym=True, data_type="int", act_bits=16, act_data_type="float")
        for b in bits
    ]


def count_tokens(model: nn.Module) -> Counter[str]:
    """Return a counter of the tokens that enter the model from now on."""
    counts: Counter[str] = Counter()

    def count(_: nn.Module, positional: tuple[Any, ...], named: dict[str, Any]) -> None:
        ids = named["input_ids"] if "input_ids" in named else positional[0]
        counts["tokens"] += ids.numel()

    model.register_forward_pre_hook(count, with_kwargs=True)
    return counts


def main() -> None:
    """Score once, solve every target, write."""
    arguments = read_arguments(__doc__ or "", ["delta-loss"])
    rows = choose_sequences(arguments)
    register_sequences(rows)
    model = load_model(arguments.model)
    sizes = block_linears(model)
    counts = count_tokens(model)
    options = make_options(arguments.bits, arguments.group_size)
    scheme = AutoScheme(
        avg_bits=arguments.targets,
        options=options,
        ignore_scale_zp_bits=True,
        nsamples=len(rows),
        seqlen=rows.shape[1],
    )
    gc.freeze()  # AutoScheme collects garbage a dozen times for every target
    started = time.perf_counter()
    with tempfile.TemporaryDirectory() as cache:
        os.environ["AR_AUTO_SCHEME_CACHE"] = cache
        tokenizer = AutoTokenizer.from_pretrained(arguments.model, local_files_only=True)
        search = GenScheme(scheme, model, list(sizes), {}, _DATASET, device_map="cpu", tokenizer=tokenizer)
        configs = search.get_layer_config()
    seconds = time.perf_counter() - started
    if counts["tokens"] != rows.numel() * len(options):
        raise RuntimeError(f"AutoScheme read {counts['tokens']} tokens, not {rows.numel()} for each of its options")
    plans = [
        make_plan(target, {name: config["bits"] for name, config in configs[target].items()}, sizes, arguments.bits)
        for target in arguments.targets
    ]
    result = {
        "tool": "auto-round",
        "version": auto_round.__version__,
        "method": "AutoScheme, default method: delta-loss scores, exact dynamic program",
        "token_forwards": _PASSES * counts["tokens"],
        "counted_as": "tokens x options x (forward 1 + replay 1 + backward 2)",
        "seconds": seconds,
        "plans": plans,
    }
    write_result(arguments, result)


if __name__ == "__main__":
    main()
