"""`tightfit explain`: why each module of a point has its level."""

import re
from dataclasses import replace
from pathlib import Path

import pytest

from storage.job_facts import JobFacts, KeptLosses
from storage.open_store import open_store
from storage.records import JobState
from tests.cli.conftest import Cli
from tests.storage.sample_job import SampleJob, sample_job, sample_losses
from tightfit.config import load_settings


@pytest.fixture
def done(home: Path) -> SampleJob:
    """Give a home with one finished job that kept its model of losses."""
    sample = sample_job("calm-otter-7")
    store = open_store(load_settings().database_url)
    store.create_job(sample.job.job_id, sample.job.spec)
    store.create_trials(sample.trials)
    store.set_job_state(sample.job.job_id, JobState.RUNNING)
    facts = JobFacts(model=KeptLosses(sample_losses(sample)), inventory=sample.inventory)
    store.update_job(sample.job.job_id, document=sample.document, facts=facts)
    store.set_job_state(sample.job.job_id, JobState.DONE)
    store.close()
    return sample


def test_table(cli: Cli, done: SampleJob) -> None:
    """One line per module, the largest share first, with both neighbours; the recommended point is the default."""
    best = done.document.recommended
    assert best is not None
    found = cli("explain", done.job.job_id)
    assert (found.exit_code, found.err) == (0, "")
    assert f"why the modules of {best.point} have their levels" in found.out
    lines = [line for line in found.out.splitlines() if " model." in line]
    assert len(lines) == len(done.inventory.modules)
    shares = [float(line.split()[2].rstrip("%")) for line in lines]
    assert shares == sorted(shares, reverse=True)
    assert sum(shares) == pytest.approx(100, abs=3)
    assert re.search(r"Going rate: \d+ kB are worth [\d.e-]+ KL at this size", found.out)
    assert any("down " in line and ", up " in line for line in lines)
    assert found.out == cli("explain", done.job.job_id, "--point", best.point).out


def test_json(cli: Cli, done: SampleJob) -> None:
    """The whole explanation of one point."""
    point = done.document.front[2]
    found = cli("explain", done.job.job_id, "--point", point.point, "--json").json
    assert list(found) == ["point", "kl_divergence", "predicted_kl_divergence", "going_rate", "modules", "metric"]
    assert (found["point"], found["kl_divergence"]) == (point.point, point.kl_divergence)
    first = found["modules"][0]
    assert list(first) == [
        *("module", "level", "kl_share", "kl_divergence", "size_bytes", "saved_bytes", "up", "down", "why"),
    ]
    assert sum(m["kl_divergence"] for m in found["modules"]) == pytest.approx(point.kl_divergence)
    assert {m["module"]: m["level"] for m in found["modules"]} == done.plans[point.point].to_json()
    for row in (m for m in found["modules"] if m["down"] is not None):
        assert row["why"].startswith(f"kept at {row['level']}: going down to {row['down']['level']} saves ")


def test_front_with_explanations(cli: Cli, done: SampleJob) -> None:
    """With --explain the front's document has those of all points; without it stays small."""
    plain = cli("front", done.job.job_id, "--json").json
    full = cli("front", done.job.job_id, "--json", "--explain").json
    assert list(full["explanations"]) == [p.point for p in done.document.front]
    assert {k: v for k, v in full.items() if k != "explanations"} == plain
    assert full["explanations"]["p1"] == cli("explain", done.job.job_id, "--point", "p1", "--json").json


def test_unknown_point(cli: Cli, done: SampleJob) -> None:
    """One sentence that names the points there are."""
    found = cli("explain", done.job.job_id, "--point", "p99")
    assert (found.exit_code, found.out) == (2, "")
    assert "has no point 'p99'; its front has p0, p1" in found.err


def test_a_job_without_a_model(cli: Cli, done: SampleJob) -> None:
    """An older job, or another sampler: one sentence; its front still prints, with nothing explained."""
    open_store(load_settings().database_url).update_job(done.job.job_id, facts=JobFacts(model=KeptLosses({})))
    found = cli("explain", done.job.job_id)
    assert (found.exit_code, found.out) == (2, "")
    assert "kept no model of its losses" in found.err
    assert cli("front", done.job.job_id, "--json", "--explain").json["explanations"] == {}


def test_a_point_that_was_not_priced_is_left_out(cli: Cli, done: SampleJob) -> None:
    """A level that the model does not know leaves the other points explained."""
    losses = sample_losses(done)
    name = done.inventory.modules[0].name
    gone = str(done.plans["p0"][name])
    del losses[name][gone]
    open_store(load_settings().database_url).update_job(done.job.job_id, facts=JobFacts(model=KeptLosses(losses)))
    assert "which the search did not price" in cli("explain", done.job.job_id, "--point", "p0").err
    expected = [point for point, plan in done.plans.items() if str(plan[name]) != gone]
    assert list(cli("front", done.job.job_id, "--json", "--explain").json["explanations"]) == expected


def test_no_point_fits(cli: Cli, done: SampleJob) -> None:
    """Without a recommended point one must be named."""
    store = open_store(load_settings().database_url)
    front = tuple(replace(p, recommended=False) for p in done.document.front)
    store.update_job(done.job.job_id, document=replace(done.document, front=front, budget_bytes=1000))
    assert cli("explain", done.job.job_id).exit_code == 3
    assert cli("explain", done.job.job_id, "--point", "p0").exit_code == 0
