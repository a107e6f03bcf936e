"""The MLflow mirror over a real SQLite file, and with nobody at the other end."""

import json
import logging
import time
from collections.abc import Iterator
from contextlib import closing
from dataclasses import replace
from pathlib import Path
from socket import socket
from threading import Thread
from typing import Any

import pytest

from space.errors import TightfitError
from storage.records import Job, JobState
from storage.tracking.contract import NullTracker
from storage.tracking.mlflow_runs import sync
from storage.tracking.mlflow_tracker import MlflowTracker
from storage.tracking.mlflow_view import (
    LOG_KL,
    MAX_VIEWS,
    TAG_PREFIX,
    decode_view,
    encode_view,
    pareto_link,
    view_key,
    views_to_remove,
)
from storage.tracking.run_figures import experiment_name
from tests.storage.sample_job import SampleJob, sample_job

mlflow = pytest.importorskip("mlflow")
NOBODY = "http://127.0.0.1:9"
REPORT = "<!doctype html><p>report</p>"


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


@pytest.fixture(scope="module")
def synced(tmp_path_factory: pytest.TempPathFactory, sample: SampleJob) -> tuple[str, str]:
    """Return (tracking URI, link) of a job that was synced twice, with a stale front in between."""
    uri = f"sqlite:///{tmp_path_factory.mktemp('mlflow') / 'mlflow.db'}"
    for document in (sample.document, replace(sample.document, front=sample.document.front[:2]), sample.document):
        link = sync(uri, sample.job, sample.trials, document, REPORT, sample.progress)
    return uri, link


def _runs(uri: str, kind: str) -> list[Any]:
    client = mlflow.MlflowClient(uri)
    experiment = client.get_experiment_by_name("tightfit/acme/tiny-llama-8m")
    return list(client.search_runs([experiment.experiment_id], f"tags.`tightfit.kind` = '{kind}'"))


def test_syncing_again_leaves_one_parent(synced: tuple[str, str], sample: SampleJob) -> None:
    """A job has one parent, and one child per point of its front, uniform plans and dense model."""
    counts = {kind: len(_runs(synced[0], kind)) for kind in ("job", "front", "uniform", "dense")}
    assert counts == {"job": 1, "front": len(sample.document.front), "uniform": 6, "dense": 1}


def test_parent_tells_the_answer_first(synced: tuple[str, str], sample: SampleJob) -> None:
    """The description starts with the recommended point and how to export it."""
    (parent,) = _runs(synced[0], "job")
    best = sample.document.recommended
    assert best is not None
    note = parent.data.tags["mlflow.note.content"]
    assert note.startswith(f"**Recommended: {best.point},")
    assert f"tightfit export {sample.job.job_id} --point {best.point} --out DIR" in note
    assert (parent.info.status, parent.data.params["budget"]) == ("FINISHED", "5MiB")


def test_steps_are_not_doubled(synced: tuple[str, str], sample: SampleJob) -> None:
    """Three syncs keep one value per step."""
    (parent,) = _runs(synced[0], "job")
    history = mlflow.MlflowClient(synced[0]).get_metric_history(parent.info.run_id, "hypervolume")
    assert [(m.step, m.value) for m in history] == [(n, m["hypervolume"]) for n, m in sample.progress]


def test_table_has_all_trials(synced: tuple[str, str], sample: SampleJob, tmp_path: Path) -> None:
    """Every trial is a row, failed ones included, with rounded digits."""
    table = _artifact(synced[0], "trials.json", tmp_path)
    rows = [dict(zip(table["columns"], row, strict=True)) for row in table["data"]]
    assert [row["trial"] for row in rows] == [trial.number for trial in sample.trials]
    assert {row["state"] for row in rows} == {"COMPLETE", "FAILED"}
    digits = [str(row["kl_divergence"]).lstrip("0.").replace(".", "") for row in rows if row["kl_divergence"]]
    assert max(len(text) for text in digits) <= 6


def test_artifacts_hold_front_and_plans(synced: tuple[str, str], sample: SampleJob, tmp_path: Path) -> None:
    """The front document and each front point's plan come back as they were."""
    assert _artifact(synced[0], "front.json", tmp_path) == json.loads(json.dumps(sample.document.to_json()))
    assert _artifact(synced[0], "plans/p3.json", tmp_path) == sample.plans["p3"].to_json()


def test_stale_plans_are_removed(uri: str, sample: SampleJob) -> None:
    """A front that lost a point loses its plan."""
    sync(uri, sample.job, sample.trials, sample.document, REPORT)
    sync(uri, sample.job, sample.trials, replace(sample.document, front=sample.document.front[:2]), REPORT)
    (parent,) = _runs(uri, "job")
    files = mlflow.MlflowClient(uri).list_artifacts(parent.info.run_id, "plans")
    assert [file.path for file in files] == ["plans/p0.json", "plans/p1.json"]


def test_view_opens_on_this_job(synced: tuple[str, str], sample: SampleJob) -> None:
    """The experiment's view filters the job's points and plots size against log KL first; the link names it."""
    uri, link = synced
    experiment = mlflow.MlflowClient(uri).get_experiment_by_name("tightfit/acme/tiny-llama-8m")
    state = decode_view(experiment.tags[TAG_PREFIX + view_key(sample.job.job_id)])
    assert f"`tightfit.job` = '{sample.job.job_id}'" in state["searchFilter"]
    first, second, third = state["compareRunCharts"]
    assert (first["type"], first["xaxis"]["key"], first["yaxis"]["key"]) == ("SCATTER", "size_mib", LOG_KL)
    assert (second["type"], second["xaxis"]["key"], second["yaxis"]["key"]) == ("SCATTER", "size_mib", "kl_divergence")
    assert (third["type"], third["selectedMetrics"]) == ("PARALLEL", ["size_mib", LOG_KL])
    assert link == pareto_link(uri, experiment.experiment_id, sample.job.job_id)
    assert "workflowType=machine_learning" in link


def test_oldest_views_make_room() -> None:
    """The 41st view pushes out our oldest one and no other's."""
    tags = {TAG_PREFIX + view_key(f"job{n}"): encode_view(f"job{n}", 1000 + n) for n in range(MAX_VIEWS - 1)}
    tags[TAG_PREFIX + "mine"] = encode_view("mine", 1)
    assert views_to_remove(tags, "new") == [TAG_PREFIX + view_key("job0")]
    assert views_to_remove(tags, "job3") == []


def test_tracker_delivers(uri: str, sample: SampleJob) -> None:
    """What a search queues is in MLflow once the tracker is closed."""
    tracker = MlflowTracker(uri)
    for step, metrics in sample.progress:
        tracker.progress(sample.job, step, metrics)
    tracker.publish(sample.job, sample.trials, sample.document, REPORT)
    assert tracker.close(120)
    (parent,) = _runs(uri, "job")
    assert parent.data.metrics["trials_done"] == sample.progress[-1][1]["trials_done"]
    assert len(_runs(uri, "front")) == len(sample.document.front)


def test_job_that_ended_without_a_front_is_shown_so(uri: str, sample: SampleJob) -> None:
    """By the tracker that heard its steps, or by a later sync; resumed it runs again, and a front has the last word."""
    failed = replace(sample.job, state=JobState.FAILED, error="the disk is full", document=None)
    running = replace(failed, state=JobState.RUNNING, error=None, finished_at=None)

    def live(*told: Job) -> None:
        tracker = MlflowTracker(uri)
        for job in told:
            tracker.end(job) if job.state.is_finished else tracker.progress(job, 1, {"trials_done": 1.0})
        assert tracker.close(120)

    def shown() -> tuple[str, str]:
        (parent,) = _runs(uri, "job")
        return parent.info.status, parent.data.tags.get("mlflow.note.content", "")

    live(running, failed)
    assert shown() == ("FAILED", "**FAILED.** the disk is full")
    live(running)
    assert shown()[0] == "RUNNING"
    sync(uri, replace(failed, state=JobState.CANCELLED, error=None), sample.trials, None, "", sample.progress)
    assert shown() == ("KILLED", "**CANCELLED.**")
    sync(uri, sample.job, sample.trials, sample.document, REPORT)
    assert shown()[0] == "FINISHED"
    assert shown()[1].startswith("**Recommended")


def test_nobody_there_is_noted_once(sample: SampleJob, caplog: pytest.LogCaptureFixture) -> None:
    """With MLflow down no verb blocks or raises; one warning tells, and close is bounded."""
    tracker = MlflowTracker(NOBODY, patience_seconds=0.2)
    started = time.monotonic()
    with caplog.at_level(logging.WARNING, "tightfit.tracking"):
        for step in range(200):
            tracker.progress(sample.job, step, {"hypervolume": 0.1})
        tracker.publish(sample.job, sample.trials, sample.document, REPORT)
        assert time.monotonic() - started < 1
        assert not tracker.close(20)
    assert [NOBODY in record.getMessage() for record in caplog.records] == [True]


@pytest.fixture
def silent_server() -> Iterator[str]:
    """Yield the address of a server that takes connections and never answers."""
    with closing(socket()) as server:
        server.bind(("127.0.0.1", 0))
        server.listen(64)
        yield f"http://127.0.0.1:{server.getsockname()[1]}"


def test_close_is_bounded_by_a_silent_server(sample: SampleJob, silent_server: str) -> None:
    """A server that never answers cannot hold a job that ends."""
    tracker = MlflowTracker(silent_server)
    tracker.publish(sample.job, sample.trials, sample.document, REPORT)
    started = time.monotonic()
    assert not tracker.close(1.0)
    assert time.monotonic() - started < 3


def test_put_after_close_is_lost_not_raised(sample: SampleJob) -> None:
    """A late step of a closed tracker is dropped."""
    tracker = MlflowTracker(NOBODY)
    assert tracker.close(5)
    tracker.progress(sample.job, 1, {"hypervolume": 0.1})
    assert not tracker.close(5)


def test_sync_says_that_nobody_is_there(sample: SampleJob) -> None:
    """The error names the address, without its password, and the way out."""
    uri = "http://me:secret@127.0.0.1:9"
    with pytest.raises(TightfitError, match=r"MLflow at http://127\.0\.0\.1:9 cannot be used.*tightfit ui") as caught:
        sync(uri, sample.job, sample.trials, sample.document, REPORT)
    assert "secret" not in str(caught.value)


def test_link_holds_no_password() -> None:
    """It is printed, and people send it to each other."""
    for uri in ("https://me:secret@host/mlflow/", "https://secret@host/mlflow", "https://me:se/cret@host/mlflow"):
        assert pareto_link(uri, "1", "j").startswith("https://host/mlflow/#/experiments/1/runs?")


def test_two_jobs_share_an_experiment(uri: str, sample: SampleJob) -> None:
    """Syncing one job leaves another job of the same model alone."""
    other = sample_job("brisk-heron-2", seed=1)
    for each in (sample, other, sample):
        sync(uri, each.job, each.trials, each.document, REPORT)
    names = [run.data.tags["tightfit.job"] for run in _runs(uri, "job")]
    assert sorted(names) == ["brisk-heron-2", "calm-otter-7"]
    assert len(_runs(uri, "dense")) == 2


def test_null_tracker_is_a_tracker(sample: SampleJob) -> None:
    """Showing nothing always succeeds."""
    tracker = NullTracker()
    tracker.progress(sample.job, 1, {})
    tracker.publish(sample.job, sample.trials, sample.document, REPORT)
    tracker.end(sample.job)
    assert tracker.close(0)


@pytest.mark.parametrize(
    ("model", "name"),
    [("Qwen/Qwen3-0.6B", "tightfit/Qwen/Qwen3-0.6B"), ("/data/x'<b>", "tightfit/x--b-"), ("./m/", "tightfit/m")],
)
def test_experiments_are_named_by_model(model: str, name: str) -> None:
    """A hub name stays, a folder is its last name, odd characters go."""
    assert experiment_name(model) == name


def _artifact(uri: str, path: str, folder: Path) -> dict[str, Any]:
    (parent,) = _runs(uri, "job")
    local = mlflow.MlflowClient(uri).download_artifacts(parent.info.run_id, path, str(folder))
    value: dict[str, Any] = json.loads(Path(local).read_text())
    return value


def test_two_writers_make_one_experiment(tmp_path: Path, sample: SampleJob) -> None:
    """Two processes' first steps at the same time end in one experiment, in a database that neither has seen."""
    uri = f"sqlite:///{tmp_path / 'mlflow.db'}"
    jobs = [sample, sample_job("brisk-heron-2", seed=1)]
    threads = [Thread(target=sync, args=(uri, j.job, j.trials, j.document, REPORT)) for j in jobs]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
    assert len(_runs(uri, "job")) == 2
