"""The league of GGUF files: ours against llama.cpp's own recipes at the same bytes, judged by llama.cpp's logits.

    npm pack @node-llama-cpp/linux-x64 && tar xzf node-llama-cpp-linux-x64-*.tgz
    python -m benchmarks.targets --home DIR --llama package/bins/linux-x64

Needs the extras `gguf` and `llama-cpp`, and a folder of llama.cpp's libraries, whose quantizer makes the recipes.
Both sides have the same calibration text (ours the standard library's, the recipes the mean squares of the same
inputs as importance matrix); KL is to the dense model in float32, on text that neither saw.
"""

import argparse
import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path

import torch
from torch import Tensor

from benchmarks.targets.recipes import RECIPES, dense_file, importance_file, quantized, unseen_tokens
from space.spec import make_spec
from storage.sound_records import ground_of
from tightfit.config import Settings
from tightfit.export.select import select_point
from tightfit.export.source import Source
from tightfit.export.targets.gguf_writer import GGUF_WRITER
from tightfit.searched_model import front_plans
from tightfit.service import Service
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.gguf.gguf_file import read_gguf
from workers.gguf.llama_cpp import opened
from workers.levels.level_store import LevelStore
from workers.models.model_files import resolve_model
from workers.text.tokens import TokenSet

RESULT = Path(__file__).resolve().parents[1] / "results" / "targets.json"


@dataclass(frozen=True, slots=True)
class Row:
    """One recipe and our plans at its bytes: KL of llama.cpp's logits on unseen text."""

    recipe: str
    size_bytes: int
    kl_divergence: float
    our_size_bytes: int
    our_kl_divergence: float
    ratio: float


def main() -> None:
    """Run the league and write its JSON."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True)
    parser.add_argument("--llama", type=Path, required=True)
    parser.add_argument("--model", default="bundled")
    parser.add_argument("--job", help="a finished job of that model and target in that home; else one is run")
    parser.add_argument("--sequences", type=int, default=32)
    parser.add_argument("--out", type=Path, default=RESULT)
    arguments = parser.parse_args()
    service = Service(Settings(arguments.home, f"sqlite:///{arguments.home / 'tightfit.db'}", None))
    job_id = arguments.job or _searched(service, arguments.model)
    folder = resolve_model(arguments.model, None)
    judge = _Judge(folder, arguments.sequences)
    made = _recipe_files(service, job_id, folder, arguments)
    rows = []
    for recipe, path in made.items():
        size = _tensor_bytes(path)
        own = _our_file(service, job_id, folder, size, arguments.home / "league" / f"ours-{recipe}")
        theirs, our_kl = judge.kl(path), judge.kl(own)
        rows.append(Row(recipe, size, theirs, _tensor_bytes(own), our_kl, our_kl / theirs))
        print(rows[-1], flush=True)
    mean = float(torch.tensor([row.ratio for row in rows]).log().mean().exp())
    record = {
        "model": arguments.model,
        "geometric_mean": mean,
        "rows": list(map(asdict, rows)),
    }
    arguments.out.write_text(json.dumps(record, indent=2) + "\n", encoding="utf-8")
    print(json.dumps({"geometric_mean": mean}))


def _searched(service: Service, model: str) -> str:
    spec = make_spec(model=model, budget="4.5bpw", target="gguf", calibration="python-stdlib")
    job = service.submit(spec)
    service.run(job.job_id)
    return job.job_id


def _recipe_files(service: Service, job_id: str, folder: Path, arguments: argparse.Namespace) -> Mapping[str, Path]:
    """Return recipe -> file; what is there already is not made again."""
    ground = ground_of(service.store.get_job(job_id))
    tokens = TokenSet.from_json(ground.tokens.to_json())
    out, inventory = arguments.home / "league", inspect_model(folder)
    calibration = Path(ground.cache_folder) / f"calibration-{tokens.of('calibration')[:16]}"
    dense = dense_file(folder, inventory, out / "dense")
    importance = importance_file(folder, inventory, calibration, out / "importance.safetensors")
    paths = {recipe: out / f"{recipe}.gguf" for recipe in RECIPES}
    for recipe, path in paths.items():
        if not path.exists():
            quantized(arguments.llama, dense, importance, recipe, path)
    return paths


def _our_file(service: Service, job_id: str, folder: Path, size: int, out: Path) -> Path:
    """Return the file of the best point of a job's front that takes no more bytes; exports' own checks are left out."""
    ground, inventory = ground_of(service.store.get_job(job_id)), inspect_model(folder)
    document = service.front(job_id)
    point = select_point(document, inventory, budget=f"{size}B")
    plan = front_plans(document, service.store.list_trials(job_id))[point.point]
    tokens = TokenSet.from_json(ground.tokens.to_json())
    folder_of_levels = Path(ground.cache_folder) / "levels"
    levels = LevelStore(folder_of_levels, ground.model_digest, tokens.of("calibration"))
    out.mkdir(parents=True, exist_ok=True)
    GGUF_WRITER.write(out, Source(folder, inventory, levels, plan))
    return out / GGUF_WRITER.weights


def _tensor_bytes(path: Path) -> int:
    return sum(tensor.num_bytes for tensor in read_gguf(path))


class _Judge:
    """KL divergence to the dense model on unseen text, from llama.cpp's logits."""

    def __init__(self, folder: Path, num_sequences: int) -> None:
        self._tokens = unseen_tokens(folder, num_sequences)
        model = load_model(folder, "cpu")
        with torch.no_grad():
            self._dense = [model(part).logits.float().log_softmax(-1) for part in self._tokens.split(1)]

    def kl(self, path: Path) -> float:
        """Return nats per token of a file."""
        found: list[Tensor] = []
        with opened(path, self._tokens.shape[1]) as runtime:
            for dense, logits in zip(self._dense, runtime.logits(self._tokens), strict=True):
                own = logits.log_softmax(-1)
                found.append((dense.exp() * (dense - own)).sum(-1).mean())
        return float(torch.stack(found).mean())


if __name__ == "__main__":
    main()
