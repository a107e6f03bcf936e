"""Which kind of device a job computes on, decided once: its numbers are compared with each other to the end."""

from space.errors import UsageError
from workers.devices import Device, device_here
from workers.pool.node_caches import cluster_address
from workers.pool.ray_executor import cluster_has_gpus


def device_of_job(recorded: str | None) -> Device:
    """Return what a job's workers compute on: what they did when it began, else a GPU where there is one.

    Args:
        recorded: what the job's records say; None where it has just begun.

    Raises:
        UsageError: it began on GPUs, and there is none.

    """
    if recorded == "cpu":
        return "cpu"
    found = _device_of_workers()
    if recorded == "cuda" and found == "cpu":
        raise UsageError(
            "This job began on GPUs and its workers find none now; numbers of GPUs and CPUs are not comparable. "
            "Resume it where a GPU is, or submit it again, which measures everything anew on CPUs."
        )
    return found


def _device_of_workers() -> Device:
    """Return what a new job's workers have."""
    if cluster_address() is None:
        return device_here()
    return "cuda" if cluster_has_gpus() else "cpu"
