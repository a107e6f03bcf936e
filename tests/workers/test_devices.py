"""A job computes on one kind of device; without a GPU here, that of a job on GPUs is told by its records."""

import subprocess
import sys
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest

from space.errors import UsageError
from tests.workers.tiny_models import TinyKind, make_workspace
from workers import devices
from workers.devices import computed_digest, device_here, gpu_share
from workers.run.memory_limits import must_stream, needed_bytes, told
from workers.worker import Worker


@pytest.fixture(autouse=True)
def no_gpu(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let this machine have none."""
    monkeypatch.setattr(devices, "_DRIVERS", ())


@pytest.mark.parametrize("num_gpus", [1, 2, 3, 4, 8])
@pytest.mark.parametrize("num_workers", [1, 2, 3, 4, 5, 7, 8, 16])
def test_shares_of_gpus_find_a_place(num_gpus: int, num_workers: int) -> None:
    """A worker's share lies on one GPU; whole shares of all GPUs are enough for all workers, and none is in vain."""
    share = gpu_share(num_gpus, num_workers)
    per_gpu = round(1 / share)
    assert share * per_gpu == pytest.approx(1.0)
    assert (per_gpu - 1) * num_gpus < num_workers <= per_gpu * num_gpus
    assert gpu_share(0, num_workers) == 0.0


def test_workers_share_three_pretended_gpus() -> None:
    """Ray finds a place for each of four."""
    code = (
        "import ray, sys; from workers.pool.ray_pool import RayPool; from workers.tasks import Workspace\n"
        "from space.inventory import Inventory\n"
        "ray.init(address='local', num_cpus=4, num_gpus=3, include_dashboard=False, object_store_memory=2**27)\n"
        "pool = RayPool(Workspace('m', '/tmp', 'd', Inventory((), (), None, 1), device='cuda'), 4)\n"
        "print(len(set(pool.process_ids()))); pool.close(); ray.shutdown()"
    )
    done = subprocess.run([sys.executable, "-c", code], check=True, capture_output=True, text=True, timeout=200)
    assert done.stdout.split()[-1] == "4"


def test_what_gpus_compute_is_kept_apart() -> None:
    """Under another name; what CPUs computed keeps its own."""
    assert device_here() == "cpu"
    assert computed_digest("content", "cpu") == "content"
    assert computed_digest("content", "cuda") not in ("content", computed_digest("other", "cuda"))


def test_a_worker_without_the_jobs_device_says_so(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> None:
    """Instead of measuring what cannot be compared."""
    workspace = replace(make_workspace(tiny("tied"), tmp_path), device="cuda")
    with pytest.raises(UsageError, match=r"no GPU that torch can use.*install torch with CUDA"):
        Worker(workspace).engine  # noqa: B018 (made when it is asked for)


def test_a_gpu_holds_half_the_bytes(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> None:
    """Weights of 16 bits: what is too large as float32 may fit."""
    workspace = make_workspace(tiny("tied"), tmp_path)
    inventory = workspace.inventory
    needed, on_gpu = (needed_bytes(inventory, device, 0) for device in ("cpu", "cuda"))
    assert on_gpu * 2 == needed
    assert must_stream(inventory, needed - 1, "cpu", 0)
    assert not must_stream(inventory, on_gpu, "cuda", 0)
    assert must_stream(inventory, on_gpu - 1, "cuda", 0)
    assert "their share" in told(replace(workspace, device="cuda"))
