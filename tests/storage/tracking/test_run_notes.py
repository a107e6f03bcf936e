"""What MLflow's own pages tell of a point, a job and a model, and where they lead on."""

import json
import shutil
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from space.plan import Plan
from space.results.document import FrontDocument, FrontPoint
from storage.records import JobState, Trial
from storage.tracking.mlflow_runs import sync
from storage.tracking.mlflow_tracker import MlflowTracker
from storage.tracking.mlflow_view import LOG_KL, pareto_route, run_filter
from storage.tracking.run_notes import OWN_RUN, PLAN_FILE, plan_params
from tests.storage.sample_job import SampleJob, sample_job

mlflow = pytest.importorskip("mlflow")
REPORT = "<!doctype html><p>report</p>"
HOME = " --home '/tmp/my home'"


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


@pytest.fixture(scope="module")
def shown(tmp_path_factory: pytest.TempPathFactory, empty_mlflow: Path, sample: SampleJob) -> str:
    """Return the URI of a database that shows the job."""
    uri = f"sqlite:///{shutil.copy(empty_mlflow, tmp_path_factory.mktemp('shown'))}"
    sync(uri, sample.job, sample.trials, sample.document, REPORT, home_option=HOME)
    return uri


def _experiment(uri: str) -> Any:
    return mlflow.MlflowClient(uri).get_experiment_by_name("tightfit/acme/tiny-llama-8m")


def _runs(uri: str, query: str = "") -> dict[str, Any]:
    found = mlflow.MlflowClient(uri).search_runs([_experiment(uri).experiment_id], query)
    return {run.info.run_name: run for run in found}


def _view(experiment_id: str, sample: SampleJob) -> str:
    return pareto_route(experiment_id, sample.job.job_id)


def _note(run: Any) -> str:
    return str(run.data.tags["mlflow.note.content"])


def _plan_of(uri: str, run: Any, folder: Path) -> dict[str, str]:
    path = mlflow.MlflowClient(uri).download_artifacts(run.info.run_id, PLAN_FILE, str(folder))
    found: dict[str, str] = json.loads(Path(path).read_text())
    return found


def test_a_point_tells_its_plan_and_its_command(shown: str, sample: SampleJob, tmp_path: Path) -> None:
    """Every front point has its answer, its command, links, a histogram of bits, its plan and what it is like."""
    runs = _runs(shown)
    job = runs[sample.job.job_id].info
    for point in sample.document.front:
        run, plan = runs[f"{point.point} recommended" if point.recommended else point.point], sample.plans[point.point]
        note, where = _note(run), f"#/experiments/{job.experiment_id}/runs"
        assert f"`tightfit export {sample.job.job_id} --point {point.point} --out DIR{HOME}`" in note
        assert f"](?point={point.point}{where}/{job.run_id}/artifacts/report.html?" in note
        assert f"]({where}/{run.info.run_id}/artifacts/{PLAN_FILE}?" in note
        assert f"]({pareto_route(job.experiment_id, sample.job.job_id)})" in note
        bits = [level.bits for _, level in plan.levels]
        for each in set(bits):
            assert f"| {each} | {bits.count(each)} |" in note
        assert _plan_of(shown, run, tmp_path) == plan.to_json()
        assert run.data.params == plan_params(plan)
        assert run.info.status == "FINISHED"
    answer, links = _note(runs["p4 recommended"]).splitlines()[:2]
    assert answer == "Recommended: 4.85 MiB, KL 0.5166 [0.465, 0.5735] nats per token  "
    assert links.startswith("[Report at p4](")
    assert "Its KL is 0.44 times that of uniform b3-g64 (4 % smaller)." in _note(runs["p4 recommended"])


def test_uniform_and_dense_runs_tell_what_they_are(shown: str, sample: SampleJob, tmp_path: Path) -> None:
    """A uniform run names the point that stands against it and holds its plan; the dense one needs none."""
    runs = _runs(shown)
    uniform = runs["uniform b4-g64"]
    assert _note(uniform).startswith("Every module at b4-g64: ")
    assert "The best point that is no larger is p" in _note(uniform)
    assert set(_plan_of(shown, uniform, tmp_path).values()) == {"b4-g64"}
    assert uniform.data.params["mean_bits"] == "4.000"
    assert _note(runs["dense"]).startswith("The model as submitted: 13.07 MiB")


def test_children_are_listed_by_size(shown: str, sample: SampleJob) -> None:
    """MLflow lists the children of a run by their start, the last one first."""
    newest = sorted(_runs(shown, "tags.`tightfit.kind` = 'front'").values(), key=lambda run: -run.info.start_time)
    assert [run.data.tags["tightfit.point"] for run in newest] == [p.point for p in sample.document.front]


def test_a_job_leads_on(shown: str, sample: SampleJob) -> None:
    """The job's description links its Pareto view, its report and the run of its recommended point."""
    runs = _runs(shown)
    job, note = runs[sample.job.job_id].info, _note(runs[sample.job.job_id])
    assert pareto_route(job.experiment_id, sample.job.job_id) in note
    assert f"[p4](#/experiments/{job.experiment_id}/runs/{runs['p4 recommended'].info.run_id}?" in note
    assert f"/runs/{job.run_id}/artifacts/report.html?" in note


def test_a_model_lists_its_jobs(uri: str, sample: SampleJob) -> None:
    """The experiment names the newest job in its first line and all in a table; what somebody wrote there stays."""
    later = sample_job("brisk-heron-2", seed=1)
    later = replace(later, job=replace(later.job, started_at=later.job.created_at.replace(hour=11)))
    for each in (later, sample):
        sync(uri, each.job, each.trials, each.document, REPORT)
    note = _experiment(uri).tags["mlflow.note.content"]
    experiment = _experiment(uri).experiment_id
    assert note.splitlines()[0].startswith(f"Compressed by tightfit. [Newest Pareto view]({_view(experiment, later)})")
    assert f"| calm-otter-7 | [Pareto view]({_view(experiment, sample)}) | 5MiB | 4.852 MiB, KL 0.5166 |" in note
    mlflow.MlflowClient(uri).set_experiment_tag(experiment, "mlflow.note.content", "My own words.")
    sync(uri, sample.job, sample.trials, sample.document, REPORT)
    assert _experiment(uri).tags["mlflow.note.content"] == "My own words."


def test_a_job_that_searches_says_where_to_look(uri: str, sample: SampleJob) -> None:
    """Before there is a front, the job's run tells the command that shows how far it is."""
    tracker = MlflowTracker(uri, home_option=HOME)
    assert tracker.link(sample.job.job_id) is None
    running = replace(sample.job, state=JobState.RUNNING, finished_at=None, document=None)
    tracker.progress(running, 1, {"trials_done": 1.0})
    assert tracker.close(60)
    assert f"`tightfit status {sample.job.job_id}{HOME}`" in _note(_runs(uri)[sample.job.job_id])
    link = tracker.link(sample.job.job_id)
    assert link == "http://127.0.0.1:5000/" + pareto_route(_experiment(uri).experiment_id, sample.job.job_id)


def _strange(front: Sequence[FrontPoint], kl_divergences: Sequence[float]) -> tuple[FrontPoint, ...]:
    """Return a front whose last points have KL divergences that no logarithm has."""
    first, last = front[: -len(kl_divergences)], front[-len(kl_divergences) :]
    return *first, *(replace(p, kl_divergence=v) for p, v in zip(last, kl_divergences, strict=True))


def test_every_run_of_the_view_is_in_every_chart(uri: str, sample: SampleJob) -> None:
    """MLflow lights up by index: what one chart cannot draw is in none, be it dense, zero, negative or not finite."""
    front = _strange(sample.document.front, (0.0, -1e-9, float("nan"), float("inf")))
    sync(uri, sample.job, sample.trials, replace(sample.document, front=front), REPORT)
    assert len(_runs(uri, "tags.`tightfit.kind` = 'front'")) == len(front)
    runs = _runs(uri, run_filter(sample.job.job_id))
    assert len(runs) == len(front) - 4 + len(sample.document.uniform)
    for run in runs.values():
        assert {"size_mib", "kl_divergence", LOG_KL} <= run.data.metrics.keys()
        assert {"mean_bits", "kinds", "recovered"} <= run.data.params.keys()


def test_live_and_synced_are_the_same(uri: str, shown: str, sample: SampleJob) -> None:
    """What a job's tracker writes as it ends and what a later sync writes differ in run ids alone."""
    tracker = MlflowTracker(uri, home_option=HOME)
    tracker.publish(sample.job, sample.trials, sample.document, REPORT)
    assert tracker.close(120)

    def told(address: str) -> dict[str, Any]:
        runs = _runs(address)
        job_run = runs[sample.job.job_id].info.run_id
        return {
            name: (
                _note(run).replace(run.info.run_id, OWN_RUN).replace(job_run, "job"),
                run.data.params,
                run.data.metrics,
                run.data.tags["mlflow.runColor"] if name != sample.job.job_id else "",
            )
            for name, run in runs.items()
        }

    live, synced = told(uri), told(shown)
    best = f"runs/{_runs(uri)['p4 recommended'].info.run_id}", f"runs/{_runs(shown)['p4 recommended'].info.run_id}"
    note, *others = live[sample.job.job_id]
    live[sample.job.job_id] = (note.replace(*best), *others)
    assert live == synced


def _wide(document: FrontDocument, count: int) -> FrontDocument:
    """Return a document with so many front points."""
    small = document.front[0].size_bytes
    front = (document.front[n % len(document.front)] for n in range(count))
    points = (replace(p, point=f"p{n}", size_bytes=small + 1000 * n, recommended=n == 4) for n, p in enumerate(front))
    return replace(document, front=tuple(points))


def test_a_front_of_sixty_points_is_shown_once(uri: str, sample: SampleJob) -> None:
    """Descriptions of a long front are whole, and showing it again makes no run again."""
    document = _wide(sample.document, 60)
    for _ in range(2):
        sync(uri, sample.job, sample.trials, document, REPORT)
    runs = _runs(uri)
    assert len(runs) == 1 + 60 + len(document.uniform) + 1
    assert all("Pareto view" in _note(run) and len(_note(run)) < 5000 for run in runs.values())
    client = mlflow.MlflowClient(uri)
    deleted = client.search_runs([_experiment(uri).experiment_id], run_view_type=mlflow.entities.ViewType.DELETED_ONLY)
    assert list(deleted) == []


def test_a_point_that_was_cut_off_is_made_again(uri: str, sample: SampleJob) -> None:
    """A child without its last words, its digest, is replaced; the others stay."""
    client = mlflow.MlflowClient(uri)
    sync(uri, sample.job, sample.trials, sample.document, REPORT)
    before = _runs(uri)
    client.delete_tag(before["p3"].info.run_id, "tightfit.digest")
    sync(uri, sample.job, sample.trials, sample.document, REPORT)
    after = _runs(uri)
    changed = [name for name in after if after[name].info.run_id != before[name].info.run_id]
    assert changed == ["p3"]


def test_plans_without_trials_are_left_out(uri: str, sample: SampleJob) -> None:
    """A point whose trial the caller does not have still has its description and its command."""
    none: tuple[Trial, ...] = ()
    sync(uri, sample.job, none, sample.document, REPORT)
    run = _runs(uri)["p3"]
    assert "--point p3 --out DIR`" in _note(run)
    assert PLAN_FILE not in _note(run)
    assert run.data.params == {}


def test_params_of_a_plan_count_what_it_has() -> None:
    """Dense modules count as 16 bits; every kind is named once."""
    plan = Plan.from_json({"a": "b2-gch-t-h", "b": "dense", "c": "b4-g64-s0.5", "d": "b4-g64-r16"})
    assert plan_params(plan) == {
        "mean_bits": "6.500",
        "kinds": "dense + integer + rotated-trellis",
        "sparse_modules": "1",
        "low_rank_modules": "1",
        "recovered": "no",
    }
