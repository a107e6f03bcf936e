"""The league of MLX folders: our plans against mlx-lm's own quantizations, judged by mlx-lm's logits, at no more bytes.

    python -m benchmarks.targets.mlx_league --home DIR

Needs the extra `mlx`. Theirs are `mlx_lm.convert --quantize` at 3, 4 and 6 bits with groups of 64 columns, and its
recipe `mixed_3_6`. Ours is the point that a search with their bytes as its budget recommends, exported without refit.
KL to the dense model in float32 on 16 sequences of the job's held-out text; mlx-lm computes both in float32.
"""

import argparse
import json
import shutil
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

import mlx.core as mx
import numpy as np
import torch
from mlx.utils import tree_flatten
from mlx_lm.convert import mixed_quant_predicate_builder
from mlx_lm.utils import load_model, quantize_model
from torch import Tensor

from benchmarks.targets.input_rounding import ROOT
from benchmarks.targets.recommended import LeagueRow, Searched, league_row, open_home, searched
from space.spec import make_spec
from tightfit.service import Service
from workers.models.config_defaults import mlx_defaults
from workers.models.model_files import read_config, resolve_model

RESULT = ROOT / "benchmarks" / "results" / "targets_mlx.json"
THEIRS = {"3 bits": (3, None), "4 bits": (4, None), "6 bits": (6, None), "mixed_3_6": (3, "mixed_3_6")}
"""name -> bits, and a recipe"""
_GROUP = 64
_SEQUENCES = 16  # MLX takes two seconds of a CPU for each, whatever the model is quantized to


def main() -> None:
    """Run the league and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--workers", type=int, default=2)
    options = parser.parse_args()
    torch.set_num_threads(1)
    service = open_home(options.home)
    found = [_searched(service, options, _size(_quantized(*how))) for how in THEIRS.values()]
    rows = []
    for name, one in zip(THEIRS, found, strict=True):
        rows.append(_row(service, options.home / "league" / name.replace(" ", "-"), name, one))
        print(rows[-1], flush=True)
    RESULT.write_text(json.dumps({"model": "bundled", "rows": [*map(asdict, rows)]}, indent=1) + "\n", encoding="utf-8")


def _quantized(bits: int, recipe: str | None) -> Any:
    """Return the bundled model as mlx-lm quantizes it; its config says what mlx-lm must be told."""
    source = resolve_model("bundled")
    with tempfile.TemporaryDirectory(prefix="tightfit-mlx-") as folder:
        for path in source.glob("*.safetensors"):
            shutil.copy(path, folder)
        config = {**read_config(source), **mlx_defaults(source)}
        (Path(folder) / "config.json").write_text(json.dumps(config), encoding="utf-8")
        model, config = load_model(Path(folder))
        mx.eval(model.parameters())
    predicate: Callable[..., Any] | None = None
    if recipe is not None:
        predicate = mixed_quant_predicate_builder(recipe, model, _GROUP)
    return quantize_model(model, config, _GROUP, bits, quant_predicate=predicate)[0]


def _size(model: Any) -> int:
    return sum(int(value.nbytes) for _, value in tree_flatten(model.parameters()))


def _logits(model: Any, tokens: Tensor) -> Iterator[Tensor]:
    model.set_dtype(mx.float32)
    for row in tokens.split(1):
        yield torch.from_numpy(np.array(model(mx.array(row.numpy()))))


def _searched(service: Service, options: argparse.Namespace, size: int) -> Searched:
    text = {"calibration": "python-stdlib", "workers": options.workers}
    return searched(service, make_spec(model="bundled", budget=f"{size}B", target="mlx", **text))


def _row(service: Service, out: Path, name: str, found: Searched) -> LeagueRow:
    if not out.exists():
        service.export(found.job_id, out, point=found.point, refit=False)
    theirs, (ours, _) = _quantized(*THEIRS[name]), load_model(out)
    sides = [(_size(model), found.held_out_of(partial(_logits, model), _SEQUENCES)) for model in (theirs, ours)]
    return league_row(name, *sides)


if __name__ == "__main__":
    main()
