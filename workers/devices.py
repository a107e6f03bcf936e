"""What workers compute on: one kind of device for all of a job, so that all of its numbers can be compared.

A GPU computes in bfloat16, whose rounding alone changes a KL divergence by about 1e-3: its numbers and a CPU's are
never held against each other.
"""

from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Literal

from space.digest import digest
from space.errors import UsageError

if TYPE_CHECKING:
    import torch

Device = Literal["cpu", "cuda"]
_DRIVERS = "/dev/nvidiactl", "/dev/dxg", "/dev/kfd"  # NVIDIA, the same in WSL, AMD: whoever has none needs no torch


def device_here() -> Device:
    """Return "cuda" where this process can use a GPU, else "cpu"."""
    if not any(Path(driver).exists() for driver in _DRIVERS):
        return "cpu"
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def check_device(device: Device) -> Device:
    """Return a device, once it is seen to be usable here.

    Raises:
        UsageError: it is not.

    """
    if device == "cuda" and device_here() == "cpu":
        raise UsageError(
            "A worker of this job finds no GPU that torch can use, though the job's others have one: install torch "
            "with CUDA on every node with a GPU, or hide the GPUs (CUDA_VISIBLE_DEVICES=) and submit again."
        )
    return device


def gpu_bytes(share: float) -> int:
    """Return what a worker may take of its GPU's memory."""
    import torch

    _, total = torch.cuda.mem_get_info()
    return int(total * share)


def free_gpu_bytes() -> int:
    """Return what nobody uses of this process' GPU's memory."""
    import torch

    free, _ = torch.cuda.mem_get_info()
    return int(free)


def compute_dtype(device: str) -> "torch.dtype":
    """Return what models are run in: float32 on CPU, bfloat16 on a GPU."""
    import torch

    return torch.float32 if device == "cpu" else torch.bfloat16


def computed_digest(model_digest: str, device: Device) -> str:
    """Return the digest of a model as it is computed: of its content, and of the device where that is no CPU."""
    return model_digest if device == "cpu" else digest([model_digest, device])


def gpu_share(num_gpus: float, num_workers: int) -> float:
    """Return the share of a GPU that each worker has, such that all of them find a place.

    A share is of one GPU: on three GPUs, four workers have halves, since only three would find three quarters.
    """
    return 0.0 if num_gpus < 1 else 1.0 / ceil(num_workers / int(num_gpus))
