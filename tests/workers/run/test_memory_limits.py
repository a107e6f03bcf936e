"""When a model is run block by block."""

import resource
import subprocess
import sys
from pathlib import Path

import pytest

from space.inventory import Inventory, ModuleInfo, TensorInfo
from workers.run import memory_limits
from workers.run.memory_limits import available_bytes, must_stream, needed_bytes


def _model(millions: int) -> Inventory:
    weight = TensorInfo("big.weight", (1000, 1000 * millions), "BF16")
    return Inventory((ModuleInfo("big", "linear", weight, 0),), (), None, 1)


def test_what_does_not_fit_streams() -> None:
    """A worker's own limit counts where it is given, else what the machine has."""
    model = _model(100)
    assert needed_bytes(model) == 600_000_000
    assert must_stream(model, 500_000_000)
    assert not must_stream(model, 600_000_000)
    assert must_stream(model, None) == (available_bytes() < 600_000_000)


def test_logits_of_a_large_vocabulary_count() -> None:
    """A batch of them may take more than a small model's weights."""
    head = ModuleInfo("head", "linear", TensorInfo("head.weight", (262_144, 64), "BF16"), None)
    model = Inventory((head,), (), None, 1)
    weights = needed_bytes(model, "cpu", 0)
    assert needed_bytes(model, "cpu", 256) - weights == 4 * 256 * 262_144 * 8
    assert needed_bytes(model, "cuda", 512) - weights // 2 == 4 * 512 * 262_144 * 8


def test_limit_of_the_process() -> None:
    """RLIMIT_DATA is seen."""
    code = "from workers.run.memory_limits import available_bytes; print(available_bytes())"
    limit = 700_000_000

    def bound() -> None:
        resource.setrlimit(resource.RLIMIT_DATA, (limit, limit))

    found = subprocess.run([sys.executable, "-c", code], preexec_fn=bound, check=True, capture_output=True, timeout=60)
    assert 0 < int(found.stdout) < limit


@pytest.mark.parametrize(("allowed", "used", "left"), [("3000", "1000", 2000), ("max", "1000", None)])
def test_limit_of_the_cgroup(
    allowed: str, used: str, left: int | None, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A container's limit is seen; "max" is none."""
    (tmp_path / "memory.max").write_text(f"{allowed}\n")
    (tmp_path / "memory.current").write_text(f"{used}\n")
    monkeypatch.setattr(memory_limits, "_CGROUP", tmp_path)
    assert (available_bytes() == left) == (left is not None)
