"""`docs/mlflow.md` on a real server: every filter that it names finds runs, and exports are versions of a model."""

import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from storage.job_facts import JobFacts, KeptText
from storage.tracking.contract import Checkpoint
from storage.tracking.mlflow_inputs import SYSTEM
from storage.tracking.mlflow_runs import sync
from storage.tracking.mlflow_server import start_server, stop_server
from storage.tracking.mlflow_tracker import MlflowTracker
from tests.storage.sample_job import SampleJob, sample_job

mlflow = pytest.importorskip("mlflow")
DOCUMENT = Path(__file__).parents[3] / "docs" / "mlflow.md"
FILTERS = re.findall(r"^\| ([^|]+) \| `` (.+) `` \|$", DOCUMENT.read_text(encoding="utf-8"), re.MULTILINE)
NAME = "tightfit-acme-tiny-llama-8m"
TEXTS = KeptText("tokens.safetensors", "sampled", ("cccc", "ssss", "h" * 64))


def export_of(sample: SampleJob, number: int, *, recommended: bool) -> Checkpoint:
    """Return an export of a job."""
    point = sample.document.recommended if recommended else sample.document.front[0]
    assert point is not None
    return Checkpoint(
        task_id=f"e{number}",
        job=sample.job,
        point=point.point,
        target="packed",
        path=f"/models/small-{number}",
        digests={"model.safetensors": f"{number:064x}"},
        commands=["import tightfit.hf", f'AutoModelForCausalLM.from_pretrained("/models/small-{number}")'],
        size_bytes=point.size_bytes,
        kl_divergence=point.kl_divergence,
        is_recommended=recommended,
        finished_ms=1_790_000_000_000 + number,
    )


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job whose texts are known."""
    found = sample_job()
    return replace(found, job=replace(found.job, facts=JobFacts(tokens=TEXTS)))


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory, sample: SampleJob) -> Iterator[Any]:
    """Give a client of a server that shows two jobs and their exports, one of them twice."""
    home = tmp_path_factory.mktemp("home")
    uri = start_server(home).url
    exports = [export_of(sample, 1, recommended=True), export_of(sample, 2, recommended=False)]
    other = sample_job("brisk-heron-2", seed=1)
    try:
        for each, of_it in ((sample, exports), (other, []), (sample, exports)):
            sync(uri, each.job, each.trials, each.document, "<p>report", each.progress, exports=of_it)
        yield mlflow.MlflowClient(uri)
    finally:
        stop_server(home)


def found_runs(client: Any, query: str) -> list[Any]:
    """Return the runs of a filter."""
    experiment = client.get_experiment_by_name("tightfit/acme/tiny-llama-8m")
    return list(client.search_runs([experiment.experiment_id], query))


def test_every_filter_finds_what_it_says(client: Any, sample: SampleJob) -> None:
    """The questions of the document, each with runs, and no more than it asks for."""
    assert len(FILTERS) == 10
    found = {question: found_runs(client, query) for question, query in FILTERS}
    assert all(found.values()), [question for question, runs in found.items() if not runs]
    assert {run.info.run_name for run in found["all searches of a model"]} == {"calm-otter-7", "brisk-heron-2"}
    assert len(found["the front of one job"]) == len(sample.document.front)
    assert len(found["what each job recommends"]) == 2
    assert all(run.data.metrics["size_mib"] <= 5 for run in found["points of all jobs within 5 MiB"])
    assert [run.info.run_name for run in found["searches on a text"]] == ["calm-otter-7"]


def test_texts_are_inputs_once(client: Any) -> None:
    """Three of them with their digests and what they are for, however often a job is shown."""
    (run,) = found_runs(client, "tags.`tightfit.job` = 'calm-otter-7' AND tags.`tightfit.kind` = 'job'")
    inputs = {found.dataset.digest: found.tags[0].value for found in run.inputs.dataset_inputs}
    assert inputs == {"cccc": "calibration", "ssss": "search", "h" * 36: "held_out"}
    assert len(run.inputs.dataset_inputs) == 3


def test_exports_are_versions(client: Any, sample: SampleJob) -> None:
    """One each; the recommended one has the alias, and tells where it is, how it is loaded and what it must be."""
    versions = client.search_model_versions(f"name = '{NAME}'")
    assert {version.tags["tightfit.export"] for version in versions} == {"e1", "e2"}
    best = client.get_model_version_by_alias(NAME, "recommended")
    assert best.tags["tightfit.path"] == "/models/small-1"
    assert 'from_pretrained("/models/small-1")' in best.description
    assert f"{1:064x}" in best.description
    model = client.get_logged_model(best.source.removeprefix("models:/"))
    assert (model.params["path"], model.status) == ("/models/small-1", "READY")
    run = client.get_run(model.source_run_id)
    assert run.data.tags["tightfit.point"] == best.tags["tightfit.point"]
    experiment = client.get_experiment_by_name("tightfit/acme/tiny-llama-8m").experiment_id
    query = f"metrics.export_size_bytes <= {sample.document.front[0].size_bytes} AND params.target = 'packed'"
    (least,) = client.search_logged_models([experiment], query)
    assert least.name == "e2"
    files = client.list_logged_model_artifacts(model.model_id)
    assert [file.path for file in files] == ["MLmodel"]


def test_a_tracker_tells_of_the_machine_and_of_exports(client: Any, sample: SampleJob) -> None:
    """While a job runs what its machine does goes beside its steps, and an export that is done is registered."""
    other = sample_job("quiet-swan-3", seed=2)
    tracker = MlflowTracker(client.tracking_uri)
    tracker.progress(other.job, 4, {"trials_done": 4.0})
    tracker.register(export_of(other, 7, recommended=True))
    assert tracker.close(120)
    (run,) = found_runs(client, "tags.`tightfit.job` = 'quiet-swan-3' AND tags.`tightfit.kind` = 'job'")
    assert run.data.metrics[f"{SYSTEM}system_memory_usage_megabytes"] > 0
    assert client.get_model_version_by_alias(NAME, "recommended").tags["tightfit.export"] == "e7"


def test_an_export_is_a_version_in_a_database_without_a_server_too(tmp_path: Path, sample: SampleJob) -> None:
    """As `tightfit demo` leaves it; the process' own place of MLflow is another one."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    export = export_of(sample, 3, recommended=True)
    sync(uri, sample.job, sample.trials, sample.document, "<p>report", sample.progress, exports=[export])
    assert mlflow.get_tracking_uri() != uri
    version = mlflow.MlflowClient(uri).get_model_version_by_alias(NAME, "recommended")
    assert version.tags["tightfit.export"] == "e3"
