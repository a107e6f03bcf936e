"""A Ray node that does not see the controller's home: its workers keep levels of their own, and measure the same."""

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from storage.records import JobState
from tests.chaos.campaign import front_digest
from tests.chaos.world import two_nodes
from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.workers.pool.test_cluster_worker import content_digest
from tests.workers.tiny_models import TinyKind

ROOT = Path(__file__).parents[2]
LIMIT_SECONDS = 600.0


@dataclass(frozen=True)
class Cluster:
    """A cluster whose second node has another home, and sees an empty folder where the first one's home is."""

    address: str
    service: PlainService
    other_home: Path


def _node_apart(address: str, hidden: Path, home: Path) -> "subprocess.Popen[bytes]":
    """Start a node under which a folder is hidden by an empty file system."""
    alone = ["unshare", "--mount", "sh", "-c", f"mount -t tmpfs -o size=1m tmpfs '{hidden}' && exec \"$@\"", "sh"]
    if subprocess.run([*alone, "true"], capture_output=True, check=False).returncode != 0:
        pytest.skip("no right to mount a small file system")
    ray = [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--disable-usage-stats"]
    ray += [f"--address={address}", "--num-cpus=1", f"--object-store-memory={100 * 2**20}"]
    environment = os.environ | {"TIGHTFIT_HOME": str(home)}
    return subprocess.Popen([*alone, *ray], cwd=ROOT, env=environment, start_new_session=True)


def _until_there(nodes: Any) -> None:
    deadline = time.monotonic() + LIMIT_SECONDS
    while len(nodes.global_state._live_node_ids()) < 2:
        assert time.monotonic() < deadline
        time.sleep(0.1)


@pytest.fixture
def cluster(tmp_path: Path) -> Iterator[Cluster]:
    """Give the cluster and a service with an empty home."""
    service = open_service(tmp_path / "home")
    with two_nodes() as nodes:
        process = _node_apart(nodes.address, tmp_path / "home", tmp_path / "other-home")
        try:
            _until_there(nodes)
            yield Cluster(nodes.address, service, tmp_path / "other-home")
        finally:
            os.killpg(process.pid, signal.SIGTERM)
            process.wait(60)
    service.store.close()


def _run(cluster: Cluster, *arguments: str) -> str:
    environment = os.environ | {"RAY_ADDRESS": cluster.address, "TIGHTFIT_HOME": str(cluster.service.settings.home)}
    environment |= {"OMP_NUM_THREADS": "1", "MLFLOW_TRACKING_URI": "http://127.0.0.1:9", "HF_HUB_OFFLINE": "1"}
    command = [sys.executable, "-m", "tightfit", *arguments]
    done = subprocess.run(
        command, cwd=ROOT, env=environment, capture_output=True, text=True, timeout=LIMIT_SECONDS, check=False
    )
    assert done.returncode == 0, done.stderr[-3000:]
    return done.stderr


def _levels(home: Path) -> dict[str, str]:
    """Return the digests of level files' contents by name."""
    return {path.name: content_digest(path) for path in home.glob("cache/*/levels/*/*.safetensors")}


@pytest.mark.slow
@pytest.mark.usefixtures("reload_here")
def test_node_that_does_not_see_the_home_has_levels_of_its_own(
    cluster: Cluster, tiny: Callable[[TinyKind], Path], text_file: Path, tmp_path: Path
) -> None:
    """Told and recorded; the same front, the same bytes, and an export that has every level, from whichever node."""
    service, spec = cluster.service, small_spec(tiny("tied"), text_file, workers=2, max_trials=120)
    undisturbed = open_service(tmp_path / "undisturbed")
    expected = run_job(undisturbed, spec)[1]
    job_id = service.submit(spec).job_id
    said = _run(cluster, "run", job_id)
    job = service.store.get_job(job_id)
    assert job.state is JobState.DONE
    assert front_digest(service.front(job_id)) == front_digest(expected)
    shared, own = (
        home / "cache" / Path(str(job.facts.cache_folder)).name for home in (service.settings.home, cluster.other_home)
    )
    assert sorted((job.facts.nodes or {}).values()) == sorted([f"the shared {shared}", f"{own}, its own"])
    assert f"keeps levels in {own}, its own" in said
    whole = _levels(undisturbed.settings.home)
    for part in (_levels(service.settings.home), _levels(cluster.other_home)):
        assert part
        assert part.items() <= whole.items()
    exported = service.export(job_id, tmp_path / "out")
    assert exported.kl_divergence == pytest.approx(exported.recorded_kl_divergence, rel=1e-6)
    undisturbed.store.close()
