"""Linear layers of the blocks as Intel AutoRound rounds them (SignRound, arXiv 2309.05516), in its own formats' values.

    DIR/bin/python autoround_weights.py --model FOLDER --tokens FILE --bits 2 [--group-size 64] [--iters 200] --out FILE

Run by the interpreter that `make_env.py autoround DIR` made. Symmetric integers, its defaults for all else; every
sequence of the file is its calibration text. Written are float32 weights by the names of their modules.
"""

import argparse
import os
import time
from pathlib import Path
from typing import Any

os.environ["AR_DISABLE_DATASET_SUBPROCESS"] = "1"  # the sequences are in this process

import datasets
import torch
from auto_round import AutoRound
from auto_round.calib_dataset import register_dataset
from peer import load_model
from safetensors.torch import load_file, save_file
from torch import Tensor, nn
from transformers import AutoTokenizer

_DATASET = "same-text"


def register_sequences(rows: Tensor) -> None:
    """Make the (N, T) sequences known to AutoRound as a data set."""
    columns = {"input_ids": rows.tolist(), "attention_mask": torch.ones_like(rows).tolist()}

    def sequences(**_: Any) -> datasets.Dataset:
        return datasets.Dataset.from_dict(columns)

    register_dataset(_DATASET)(sequences)


def main() -> None:
    """Round and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--model", type=Path, required=True)
    parser.add_argument("--tokens", type=Path, required=True, help="safetensors file with (N, T) int64 `calibration`")
    parser.add_argument("--bits", type=int, required=True)
    parser.add_argument("--group-size", type=int, default=64)
    parser.add_argument("--iters", type=int, default=200)
    parser.add_argument("--out", type=Path, required=True)
    arguments = parser.parse_args()
    torch.set_num_threads(1)
    rows = load_file(arguments.tokens)["calibration"]
    register_sequences(rows)
    started = time.process_time()
    tool = AutoRound(
        load_model(arguments.model),
        AutoTokenizer.from_pretrained(arguments.model, local_files_only=True),
        bits=arguments.bits,
        group_size=arguments.group_size,
        sym=True,
        iters=arguments.iters,
        dataset=_DATASET,
        seqlen=rows.shape[1],
        nsamples=len(rows),
        device_map="cpu",
        enable_torch_compile=False,
    )
    model, _ = tool.quantize()
    print(f"{time.process_time() - started:.0f} CPU seconds")
    found = {name: m for name, m in model.named_modules() if isinstance(m, nn.Linear) and ".layers." in name}
    save_file({name: m.weight.detach().float().contiguous() for name, m in found.items()}, arguments.out)


if __name__ == "__main__":
    main()
