"""Load folders in a fresh process without any of our code, in every way that users do: JSON in and out."""

import json
import sys
from collections.abc import Callable
from contextlib import redirect_stdout
from typing import Any

import torch


def _ways(folder: str) -> dict[str, Callable[[], Any]]:
    from transformers import (
        AutoModel,
        AutoModelForCausalLM,
        AutoModelForSequenceClassification,
        LlamaForCausalLM,
        LlamaModel,
        pipeline,
    )

    return {
        "causal": lambda: AutoModelForCausalLM.from_pretrained(folder),
        "bfloat16": lambda: AutoModelForCausalLM.from_pretrained(folder, dtype=torch.bfloat16),
        "device map": lambda: AutoModelForCausalLM.from_pretrained(folder, device_map="cpu"),
        "other shapes": lambda: AutoModelForCausalLM.from_pretrained(folder, ignore_mismatched_sizes=True),
        "base": lambda: AutoModel.from_pretrained(folder),
        "classes": lambda: AutoModelForSequenceClassification.from_pretrained(folder),
        "its class": lambda: LlamaForCausalLM.from_pretrained(folder),
        "its base class": lambda: LlamaModel.from_pretrained(folder),
        "pipeline": lambda: pipeline("text-generation", model=folder),
    }


def _try(load: Callable[[], Any]) -> str | None:
    try:
        load()
    except Exception as error:  # noqa: BLE001 (whatever keeps users from loading)
        return f"{type(error).__name__}: {error}"
    return None


def main() -> None:
    """Answer folder -> way -> what was told, None where it was loaded; only the ways that are asked for."""
    torch.set_num_threads(1)
    asked = json.loads(sys.stdin.read())
    with redirect_stdout(sys.stderr):
        answers = {
            folder: {name: _try(load) for name, load in _ways(folder).items() if name in names or not names}
            for folder, names in asked.items()
        }
    ours = [name for name in sys.modules if name.partition(".")[0] in ("tightfit", "workers")]
    print(json.dumps({"answers": answers, "imported": ours}))


if __name__ == "__main__":
    main()
