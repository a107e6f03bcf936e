"""Ray as a driver finds or starts it: enough CPUs, and on every node of a cluster the same code and the model.

What it stands on has signs of life: the processes of a private Ray, the addresses of a cluster's head and of the raylet
that the driver is connected to.
"""

import hashlib
import logging
import platform
import signal
import socket
import subprocess
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from functools import partial
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from space.errors import UsageError
from workers.pool.node_caches import cluster_address, folder_here
from workers.tasks import Workspace

_VITAL = {"raylet": "its raylet", "gcs_server": "its GCS server"}
_HEAD_SECONDS, _RAYLET_SECONDS = 60.0, 3.0  # a head may be started again; a driver has no other raylet
_REACH_SECONDS = 5.0
RAY_ERRORS = (RayError, OSError, RuntimeError)
"""what Ray's calls raise where it is at its end"""
_PACKAGES = ("space", "workers")  # all that a worker runs
_LOOK_SECONDS = 120.0
_RETURN_SECONDS = 60.0
_POLL_SECONDS = 0.5


@dataclass(frozen=True, slots=True)
class Sign:
    """Something that Ray stands on.

    Attributes:
        name: for people.
        wrong: returns what is wrong with it now, None where nothing is.
        patience_seconds: how long that may last.

    """

    name: str
    wrong: Callable[[], str | None]
    patience_seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class View:
    """What a node has.

    Attributes:
        python: its version, without the last number.
        code: digest of the code that workers run.
        sees_model: whether the model's folder is there.
        cache_folder: of its workers; "" where it sees no other and can write none.
        is_shared: whether that is the controller's, which it sees.

    """

    python: str
    code: str
    sees_model: bool
    cache_folder: str
    is_shared: bool

    @property
    def place(self) -> str:
        """Return where its workers keep levels, for people."""
        return f"the shared {self.cache_folder}" if self.is_shared else f"{self.cache_folder}, its own"


def code_digest() -> str:
    """Return the digest of all code that a worker of this installation runs."""
    whole = hashlib.sha256()
    for name in _PACKAGES:
        root = Path(str(import_module(name).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            whole.update(f"{name}/{path.relative_to(root)}\n".encode() + path.read_bytes())
    return whole.hexdigest()[:12]


def look(model_folder: str, cache_folder: str, marker: str) -> View:
    """Return what this node has; `marker` is a file that the controller made in its cache folder."""
    python = ".".join(platform.python_version_tuple()[:2])
    here, is_shared = folder_here(cache_folder, marker), Path(marker).exists()
    return View(python, code_digest(), Path(model_folder).is_dir(), here or "", is_shared)


def start_ray(num_workers: int) -> bool:
    """Connect to Ray, starting a private local runtime unless RAY_ADDRESS names one; tell whether one was started.

    Raises:
        UsageError: there are fewer CPUs than workers.

    """
    started = not ray.is_initialized()
    if started:
        connect(num_workers)
    try:
        check_resources(num_workers)
    except UsageError:
        if started:
            ray.shutdown()
        raise
    return started


def connect(num_workers: int) -> None:
    """Connect to the cluster that RAY_ADDRESS names, or start a private Ray with a CPU for each worker."""
    address = cluster_address()
    quiet = {"log_to_driver": False, "logging_level": logging.ERROR, "namespace": "tightfit"}
    if address:
        ray.init(address=address, **quiet)
        return
    store_bytes = 256 * 2**20
    ray.init(address="local", num_cpus=num_workers, include_dashboard=False, object_store_memory=store_bytes, **quiet)
    _protect_token()


def disconnect() -> None:
    """Leave the cluster, or stop a private Ray."""
    ray.shutdown()


def signs_of_life() -> Sequence[Sign]:
    """Return what shows that the Ray that this process is connected to lives."""
    node = ray._private.worker._global_node  # noqa: SLF001 (nothing public tells processes)
    own = {name: found[0].process for name, found in node.all_processes.items() if name in _VITAL}
    if own:
        return [Sign(_VITAL[name], partial(_ended, _VITAL[name], process)) for name, process in own.items()]
    context = ray.get_runtime_context()
    here = next(n for n in ray.nodes() if n["NodeID"] == context.get_node_id())
    raylet = f"{here['NodeManagerAddress']}:{here['NodeManagerPort']}"
    return [
        Sign("head", partial(_unreachable, "its head", context.gcs_address), _HEAD_SECONDS),
        Sign("raylet", partial(_unreachable, "the raylet of this controller", raylet), _RAYLET_SECONDS),
    ]


def _ended(name: str, process: "subprocess.Popen[bytes]") -> str | None:
    """Return how a process of ours has ended."""
    code = process.poll()
    if code is None:
        return None
    how = f"was ended by {signal.Signals(-code).name}" if code < 0 else f"ended with exit code {code}"
    return f"{name} (process {process.pid}) {how}"


def _unreachable(name: str, address: str) -> str | None:
    """Return why an address cannot be reached."""
    host, _, port = address.rpartition(":")
    try:
        socket.create_connection((host, int(port)), timeout=_REACH_SECONDS).close()
    except OSError as error:
        return f"{name} at {address} does not answer: {error}"
    return None


def _protect_token() -> None:
    """Make Ray's token readable by its owner only: Ray writes it with open permissions."""
    token = Path.home() / ".ray" / "auth_token"
    if token.exists():
        token.chmod(0o600)


def check_resources(num_workers: int) -> None:
    """Raise UsageError where a cluster has fewer CPUs than workers; says what there is.

    Where nodes have gone, they have a minute to come back.
    """
    deadline = time.monotonic() + _RETURN_SECONDS
    while _num_cpus() < num_workers and _has_lost_nodes() and time.monotonic() < deadline:
        time.sleep(_POLL_SECONDS)
    if (cpus := _num_cpus()) < num_workers:
        gpus = count_gpus()
        and_gpus = f" and {gpus:g} GPUs" if gpus else ""
        raise UsageError(
            f"--workers {num_workers}: Ray has {cpus:g} CPUs{and_gpus}. Ask for fewer workers or add nodes."
        )


def count_gpus() -> float:
    """Return the GPUs of the Ray runtime that this process is connected to."""
    return float(ray.cluster_resources().get("GPU", 0.0))


def _num_cpus() -> float:
    return float(ray.cluster_resources().get("CPU", 0.0))


def _has_lost_nodes() -> bool:
    return not all(node["Alive"] for node in ray.nodes())


def check_nodes(workspace: Workspace, marker: Path) -> dict[str, View]:
    """Ask every node what it has, and compare; return node -> what it has, nodes named for people.

    Raises:
        UsageError: names the first node that cannot work for this controller, and what to do.

    """
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
    task: Any = ray.remote(num_cpus=0, max_retries=0)(look)
    asked = (workspace.model_folder, workspace.cache_folder, str(marker))
    mine = look(*asked)
    refs = {
        node_id: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(*asked)
        for node_id in nodes
    }
    views = {node_id: _answer(nodes[node_id], ref) for node_id, ref in refs.items()}
    there = {_name(nodes[node_id]): view for node_id, view in views.items() if view is not None}
    for name, view in there.items():
        _check(name, view, mine, workspace)
    return there


def _answer(node: Mapping[str, Any], ref: Any) -> View | None:
    """Return what a node says; None where it went away meanwhile."""
    try:
        view: View = ray.get(ref, timeout=_LOOK_SECONDS)
    except (GetTimeoutError, RayError) as error:
        if any(other["NodeID"] == node["NodeID"] and not other["Alive"] for other in ray.nodes()):
            return None
        if isinstance(error, GetTimeoutError):
            raise UsageError(
                f"{_name(node)} did not answer in {_LOOK_SECONDS:.0f} s: look after it or remove it."
            ) from error
        reason = str(error).strip().splitlines()[-1]
        told = f"{_name(node)} cannot run tightfit ({reason}): install this version's wheel there, where Ray is."
        raise UsageError(told) from error
    return view


def _check(name: str, view: View, mine: View, workspace: Workspace) -> None:
    if (view.python, view.code) != (mine.python, mine.code):
        raise UsageError(
            f"{name} runs other code (Python {view.python}, {view.code}) than this controller (Python "
            f"{mine.python}, {mine.code}): install the same wheel of tightfit on both."
        )
    if not view.sees_model:
        told = f"{name} does not see {workspace.model_folder}: keep the model on a path that all nodes share."
        raise UsageError(told)
    if not view.cache_folder:
        raise UsageError(
            f"{name} does not see {workspace.cache_folder} and can write no folder of its own for levels: start its "
            "Ray with TIGHTFIT_HOME set to one."
        )


def _name(node: Mapping[str, Any]) -> str:
    return f"Ray node {node['NodeManagerHostname']} ({node['NodeManagerAddress']}:{node['NodeManagerPort']})"
