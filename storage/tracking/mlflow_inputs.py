"""What goes into a job's run beside its figures: the texts that it stands on, and what its machine is doing."""

import time
from typing import TYPE_CHECKING, Any

from storage.tracking.run_figures import Text

if TYPE_CHECKING:
    from collections.abc import Sequence

    from mlflow import MlflowClient

SYSTEM = "system/"
"""how MLflow's page of system metrics knows them"""
SAMPLE_SECONDS = 10.0


def log_texts(client: "MlflowClient", run_id: str, texts: "Sequence[Text]") -> None:
    """Make texts a run's dataset inputs, by name and digest; those that it has are left alone."""
    from mlflow.entities import Dataset, DatasetInput, InputTag

    inputs = client.get_run(run_id).inputs
    known = {found.dataset.digest for found in inputs.dataset_inputs} if inputs else set()
    new = [
        DatasetInput(
            Dataset(text.name, text.digest, "text", text.source), [InputTag("mlflow.data.context", text.context)]
        )
        for text in texts
        if text.digest not in known
    ]
    if new:
        client.log_inputs(run_id, new)


class SystemMetrics:
    """Processor, memory, disk and network of this machine, by MLflow's own monitors, at most every 10 s."""

    def __init__(self) -> None:
        """Look for the first time: what is counted is counted from now on."""
        from mlflow.system_metrics.metrics.cpu_monitor import CPUMonitor
        from mlflow.system_metrics.metrics.disk_monitor import DiskMonitor
        from mlflow.system_metrics.metrics.network_monitor import NetworkMonitor

        kinds: list[Any] = [CPUMonitor, DiskMonitor, NetworkMonitor]
        self._monitors, self._looked_at = [kind() for kind in kinds], float("-inf")

    def sample(self) -> dict[str, float]:
        """Return name -> value; nothing where the last sample is not old enough."""
        if time.monotonic() - self._looked_at < SAMPLE_SECONDS:
            return {}
        self._looked_at = time.monotonic()
        found: dict[str, float] = {}
        for monitor in self._monitors:
            monitor.collect_metrics()
            found |= {SYSTEM + name: float(value) for name, value in monitor.aggregate_metrics().items()}
            monitor.clear_metrics()
        return found
