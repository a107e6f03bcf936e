"""How much memory a worker may use, and whether a model fits in it as a whole."""

import resource
from collections.abc import Mapping
from pathlib import Path

from space.budget import format_bytes
from space.inventory import Inventory, ModuleInfo
from workers.devices import Device, free_gpu_bytes
from workers.tasks import BATCH, Workspace

ITEM_BYTES: Mapping[Device, int] = {"cpu": 4, "cuda": 2}  # of the type that models are run in
_ROOM = 1.5  # over the weights: activations, one level being unpacked
_LOGITS = 2 * 4  # bytes of a logit: the model's, and those that are being scored
_PAIR_BYTES = 52  # for each pair of inputs: Hessians, turned and in order, and a factorization in double precision
_VALUE_BYTES = 12  # for each value of a weight: itself, turned, and what a level leaves of it
_STACKED_BYTES = 2**31  # of levels that are quantized together, and of scales that are tried
_CGROUP = Path("/sys/fs/cgroup")


def must_stream(
    inventory: Inventory, memory_bytes: int | None, device: Device = "cpu", sequence_length: int = 256
) -> bool:
    """Tell whether a model must be run block by block, since its weights would not fit into so much of a device."""
    limit = available_bytes() if memory_bytes is None else memory_bytes
    return needed_bytes(inventory, device, sequence_length) > limit


def told(workspace: Workspace) -> str:
    """Return in words how workers hold a model."""
    inventory, length = workspace.inventory, workspace.sequence_length
    needed = format_bytes(needed_bytes(inventory, workspace.device, length))
    if workspace.device == "cuda":
        return f"they use GPUs, and read the model block by block where {needed} do not fit into their share of one"
    limit = available_bytes() if workspace.memory_bytes is None else workspace.memory_bytes
    if must_stream(inventory, limit, sequence_length=length):
        return f"they read the model block by block: {needed} do not fit into {format_bytes(limit)} each"
    return f"each holds the whole model: {needed} of the {format_bytes(limit)} that it may take"


def share_bytes(num_workers: int) -> int:
    """Return what each of so many workers on this machine may take."""
    return available_bytes() // num_workers


def needed_bytes(inventory: Inventory, device: Device = "cpu", sequence_length: int = 256) -> int:
    """Return the private memory of a worker, or the memory of its GPU, that holds a whole model and runs a batch."""
    vocabulary = max((m.out_features for m in inventory.modules if m.block is None), default=0)
    logits = _LOGITS * BATCH * sequence_length * vocabulary
    return int(_ROOM * ITEM_BYTES[device] * inventory.num_parameters) + logits


def building_bytes(module: ModuleInfo) -> int:
    """Return about the memory that building a module's levels takes beside the model."""
    values = module.out_features * module.in_features
    return _PAIR_BYTES * module.in_features**2 + _VALUE_BYTES * values + _STACKED_BYTES


def free_bytes(device: Device = "cpu") -> int:
    """Return the memory that may still be taken: by this process, or of its GPU."""
    return available_bytes() if device == "cpu" else free_gpu_bytes()


def available_bytes() -> int:
    """Return the memory that this process may still take: the least of its limit, its cgroup's and the machine's."""
    limits = [_machine()]
    soft, _ = resource.getrlimit(resource.RLIMIT_DATA)
    if soft != resource.RLIM_INFINITY:
        limits.append(soft - _status("VmData:", Path("/proc/self/status")))
    allowed, used = _number(_CGROUP / "memory.max"), _number(_CGROUP / "memory.current")
    if allowed is not None and used is not None:
        limits.append(allowed - used)
    return max(0, min(limits))


def _machine() -> int:
    return _status("MemAvailable:", Path("/proc/meminfo"))


def _status(key: str, path: Path) -> int:
    """Return the bytes that a line of a /proc file tells in kB."""
    line = next(line for line in path.read_text(encoding="ascii").splitlines() if line.startswith(key))
    return int(line.split()[1]) * 1024


def _number(path: Path) -> int | None:
    try:
        return int(path.read_text(encoding="ascii"))
    except (OSError, ValueError):  # no cgroup, or "max"
        return None
