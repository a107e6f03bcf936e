"""A whole job for EXL3's runtimes, typed as a user types it: submit, export, and its proof in a fresh process."""

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from tests.workers.tiny_models import make_wide

TEXT = ("--sequence-length", "32", "--num-sequences", "16")
MENU = ("--target", "exl3", "--bits", "4,8", "--budget", "10bpw", "--max-trials", "12", "--workers", "1")


def _tightfit(home: Path, *arguments: str) -> Any:
    command = [sys.executable, "-m", "tightfit", *arguments, "--json"]
    environment = os.environ | {"TIGHTFIT_HOME": str(home)}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=540, check=False)
    assert done.returncode == 0, done.stderr
    return json.loads(done.stdout)


@pytest.mark.slow
def test_from_a_model_to_verified_files(tmp_path: Path, text_file: Path) -> None:
    """All linear layers are in tiles, and the files hold what was searched, at the bytes that were promised."""
    model, out = make_wide(tmp_path / "model"), tmp_path / "out"
    front = _tightfit(tmp_path / "home", "submit", str(model), "--calibration", str(text_file), *MENU, *TEXT)
    told = _tightfit(tmp_path / "home", "export", front["job"], "--out", str(out), "--no-refit")
    written = json.loads((out / "quantization_config.json").read_text())
    assert written["quant_method"] == "exl3"
    tiles = written["tensor_storage"]
    assert {entry["bits_per_weight"] for entry in tiles.values()} <= {4, 8}
    assert tiles
    assert all(name == "lm_head" or ".layers." in name for name in tiles)
    assert told["verified"]
    assert told["size_bytes"] == told["predicted_bytes"] <= told["budget_bytes"]
    assert told["kl_divergence"] == pytest.approx(told["recorded_kl_divergence"], rel=1e-6)
