"""A wheel of this repository loads exports beside torch, transformers and safetensors, without what searching needs."""

import json
import os
import shutil
import subprocess
import sys
import zipfile
from collections.abc import Callable, Iterable
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path

import pytest
from packaging.requirements import Requirement
from safetensors.torch import save_file

from tests.export.exports import IDS, write_export
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind

ROOT = Path(__file__).resolve().parents[2]
PARTS = ("pyproject.toml", "setup.py", "README.md", "LICENSE", "space", "storage", "workers", "search", "tightfit")
ABSENT = ("ray", "optuna", "mlflow", "sqlalchemy", "alembic", "psycopg", "accelerate", "compressed_tensors", "pytest")
LOAD = """
import json, sys
wheel, libraries, folder, logits = sys.argv[1:]
sys.path[:0] = [wheel, libraries]
import tightfit.hf
import torch
from importlib.util import find_spec
from safetensors.torch import load_file
from transformers import AutoModelForCausalLM
from tightfit.origin import origin
model, report = AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32, output_loading_info=True)
expected = load_file(logits)
with torch.no_grad():
    found = model.eval()(input_ids=expected["ids"]).logits
    made = model.generate(expected["ids"][:1], max_new_tokens=3, min_new_tokens=3, do_sample=False, pad_token_id=1)
print(json.dumps({
    "equal": found.equal(expected["logits"]), "made": made.shape[1], "commit": origin().commit,
    "problems": [kind for kind, keys in report.items() if keys],
    "found": [name for name in %s if find_spec(name)], "from": tightfit.hf.__file__,
}))
"""


def _needed(names: Iterable[str]) -> set[str]:
    """Return the distributions that some need, as far as they are installed, themselves included."""
    found: set[str] = set()
    waiting = list(names)
    while waiting:
        name = waiting.pop()
        try:
            required = distribution(name).requires or []
        except PackageNotFoundError:  # of another platform
            continue
        if name not in found:
            found.add(name)
            wanted = map(Requirement, required)
            waiting += [r.name.lower() for r in wanted if r.marker is None or r.marker.evaluate({"extra": ""})]
    return found


def _linked(names: Iterable[str], folder: Path) -> Path:
    """Return a folder in which the files of some distributions are found, and no others."""
    folder.mkdir()
    for name in names:
        there = distribution(name)
        for top in {path.parts[0] for path in there.files or () if path.parts[0] != ".."}:
            if not (folder / top).exists():
                (folder / top).symlink_to(str(there.locate_file(top)))
    return folder


@pytest.fixture
def wheel(tmp_path: Path) -> tuple[Path, str]:
    """Give an unpacked wheel, as `pip install --no-deps` leaves it, and the commit that it was built from."""
    (source := tmp_path / "source").mkdir()
    for part in PARTS:
        found, ignored = ROOT / part, shutil.ignore_patterns("__pycache__", "*.safetensors")
        shutil.copytree(found, source / part, ignore=ignored) if found.is_dir() else shutil.copy(found, source / part)
    who = ["-c", "user.name=x", "-c", "user.email=x@example.org"]
    for command in (["init", "-q"], ["add", "."], [*who, "commit", "-q", "-m", "x"], ["rev-parse", "HEAD"]):
        done = subprocess.run(["git", *command], cwd=source, capture_output=True, text=True, check=True)
    build = "import sys; from setuptools.build_meta import build_wheel; build_wheel(sys.argv[1])"
    command = [sys.executable, "-c", build, str(tmp_path)]
    subprocess.run(command, cwd=source, capture_output=True, text=True, check=True, timeout=120)
    (built,) = tmp_path.glob("tightfit-*.whl")
    with zipfile.ZipFile(built) as archive:
        archive.extractall(tmp_path / "wheel")
    return tmp_path / "wheel", done.stdout.strip()


def test_wheel_loads_exports_alone(wheel: tuple[Path, str], bench: Callable[[TinyKind], Bench], tmp_path: Path) -> None:
    """Logits are the searched model's to the bit, it generates, and it knows its commit."""
    export = write_export(bench("tied"), bench("tied").plan(EVERY_KIND), "packed", tmp_path / "out")
    save_file({"ids": IDS, "logits": export.searched_logits().contiguous()}, tmp_path / "logits")
    libraries = _linked(_needed(("torch", "transformers", "safetensors")), tmp_path / "libraries")
    done = subprocess.run(
        [sys.executable, "-I", "-S", "-c", LOAD % (ABSENT,), wheel[0], libraries, export.folder, tmp_path / "logits"],
        capture_output=True,
        text=True,
        timeout=300,
        check=False,
        cwd=tmp_path,
        env={"PATH": os.environ["PATH"], "HOME": str(tmp_path), "OMP_NUM_THREADS": "1"},
    )
    assert done.returncode == 0, done.stderr[-3000:]
    answer = json.loads(done.stdout.splitlines()[-1])
    assert answer["from"].startswith(str(wheel[0]))
    assert (answer["equal"], answer["made"], answer["problems"]) == (True, IDS.shape[1] + 3, [])
    assert answer["found"] == []
    assert answer["commit"] == wheel[1]
