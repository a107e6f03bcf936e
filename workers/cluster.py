"""Whether a Ray cluster can work for a controller: enough CPUs, and on every node the same code and the same files."""

import hashlib
import platform
import secrets
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path
from typing import Any

import ray
from ray.exceptions import GetTimeoutError, RayError
from ray.util.scheduling_strategies import NodeAffinitySchedulingStrategy

from space.errors import OutputError, UsageError
from workers.tasks import Workspace

_PACKAGES = ("space", "workers")  # all that a worker runs
_LOOK_SECONDS = 120.0


@dataclass(frozen=True, slots=True)
class View:
    """What a node has.

    Attributes:
        python: its version, without the last number.
        code: digest of the code that workers run.
        sees_model: whether the model's folder is there.
        sees_cache: whether the controller's cache folder is there, and is the same one.

    """

    python: str
    code: str
    sees_model: bool
    sees_cache: bool


def code_digest() -> str:
    """Return the digest of all code that a worker of this installation runs."""
    whole = hashlib.sha256()
    for name in _PACKAGES:
        root = Path(str(import_module(name).__file__)).parent
        for path in sorted(root.rglob("*.py")):
            whole.update(f"{name}/{path.relative_to(root)}\n".encode() + path.read_bytes())
    return whole.hexdigest()[:12]


def look(model_folder: str, marker: str) -> View:
    """Return what this node has; `marker` is a file that the controller made in its cache folder."""
    python = ".".join(platform.python_version_tuple()[:2])
    return View(python, code_digest(), Path(model_folder).is_dir(), Path(marker).exists())


def check_resources(num_workers: int) -> None:
    """Raise UsageError where a cluster has fewer CPUs than workers; says what there is."""
    there = ray.cluster_resources()
    cpus, gpus = there.get("CPU", 0.0), there.get("GPU", 0.0)
    if cpus < num_workers:
        and_gpus = f" and {gpus:g} GPUs" if gpus else ""
        raise UsageError(
            f"--workers {num_workers}: Ray has {cpus:g} CPUs{and_gpus}. Ask for fewer workers or add nodes."
        )


def check_nodes(workspace: Workspace) -> None:
    """Ask every node what it has, and compare.

    Raises:
        UsageError: names the first node that cannot work for this controller, and what to do.
        OutputError: the cache folder cannot be written.

    """
    nodes = {node["NodeID"]: node for node in ray.nodes() if node["Alive"] and node["Resources"].get("CPU")}
    task: Any = ray.remote(num_cpus=0, max_retries=0)(look)
    with _marked(Path(workspace.cache_folder)) as marker:
        mine = look(workspace.model_folder, str(marker))
        asked = {
            node_id: task.options(scheduling_strategy=NodeAffinitySchedulingStrategy(node_id, soft=False)).remote(
                workspace.model_folder, str(marker)
            )
            for node_id in nodes
        }
        for node_id, ref in asked.items():
            _check(nodes[node_id], _answer(nodes[node_id], ref), mine, workspace)


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


def _check(node: Mapping[str, Any], view: View | None, mine: View, workspace: Workspace) -> None:
    if view is None:
        return
    if (view.python, view.code) != (mine.python, mine.code):
        raise UsageError(
            f"{_name(node)} runs other code (Python {view.python}, {view.code}) than this controller (Python "
            f"{mine.python}, {mine.code}): install the same wheel of tightfit on both."
        )
    for seen, folder, what in (
        (view.sees_model, workspace.model_folder, "the model"),
        (view.sees_cache, workspace.cache_folder, "the levels (TIGHTFIT_HOME)"),
    ):
        if not seen:
            raise UsageError(f"{_name(node)} does not see {folder}: keep {what} on a path that all nodes share.")


def _name(node: Mapping[str, Any]) -> str:
    return f"Ray node {node['NodeManagerHostname']} ({node['NodeManagerAddress']})"


@contextmanager
def _marked(folder: Path) -> Iterator[Path]:
    marker = folder / f".shared-{secrets.token_hex(8)}"
    try:
        folder.mkdir(parents=True, exist_ok=True)
        marker.touch()
    except OSError as error:
        raise OutputError(f"{folder} cannot be written ({error.strerror}): name another home.") from error
    try:
        yield marker
    finally:
        marker.unlink(missing_ok=True)
