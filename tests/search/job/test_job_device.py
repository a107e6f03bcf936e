"""A job computes on one kind of device from its begin to its end."""

import pytest

from search.job import job_device
from search.job.job_device import device_of_job
from space.errors import UsageError


def test_a_job_stays_on_its_device(monkeypatch: pytest.MonkeyPatch) -> None:
    """One that began on CPUs stays there; one that began on GPUs does not go on without."""
    monkeypatch.delenv("RAY_ADDRESS", raising=False)
    monkeypatch.setattr(job_device, "device_here", lambda: "cpu")
    assert (device_of_job(None), device_of_job("cpu")) == ("cpu", "cpu")
    with pytest.raises(UsageError, match=r"began on GPUs .* Resume it where a GPU is, or submit it again"):
        device_of_job("cuda")
    monkeypatch.setattr(job_device, "device_here", lambda: "cuda")
    assert (device_of_job(None), device_of_job("cpu"), device_of_job("cuda")) == ("cuda", "cpu", "cuda")
