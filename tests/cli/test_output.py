"""Output of the command line: with --json exactly one document, and help without waiting."""

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from unittest.mock import Mock

import pytest

from space.results.document import FrontDocument
from storage.open_store import open_store
from storage.records import JobState
from tests.cli.conftest import Cli
from tests.storage.sample_job import SampleJob
from tightfit import __version__
from tightfit.cli.show import show_export
from tightfit.config import load_settings
from tightfit.service import Service

HEAVY = ("torch", "transformers", "ray", "optuna", "mlflow", "sqlalchemy", "alembic", "numpy", "datasets", "pydantic")


@pytest.mark.parametrize(
    ("command", "told"),
    [("status", "[default: all]"), ("submit", "org/name[@revision]"), ("submit", "[default: sampled]")],
)
def test_brackets_are_text(cli: Cli, command: str, told: str) -> None:
    """Help says what defaults are: brackets are no markup."""
    assert told in " ".join(cli(command, "--help").out.replace("│", " ").split())


def test_errors_are_shown_whole(cli: Cli, done: SampleJob) -> None:
    """Also with brackets in them."""
    store = open_store(load_settings().database_url)
    store.create_job("other", done.job.spec)
    store.set_job_state("other", JobState.RUNNING)
    store.set_job_state("other", JobState.FAILED, "pip install 'tool[extra]' first")
    store.close()
    assert "pip install 'tool[extra]' first" in cli("status").out


def test_report_that_cannot_be_written_is_told(
    cli: Cli, done: SampleJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In one sentence, with the file; one that can is written."""
    monkeypatch.setattr(Service, "report", lambda *_: "<p>front")
    for path, reason in ((tmp_path / "no" / "x.html", "No such file or directory"), (tmp_path, "Is a directory")):
        found = cli("front", done.job.job_id, "--html", str(path))
        told = f"tightfit: {path}: cannot be written ({reason}). Give another file with --html.\n"
        assert (found.exit_code, found.out, found.err) == (2, "", told)
    assert cli("front", done.job.job_id, "--html", str(tmp_path / "x.html")).exit_code == 0
    assert (tmp_path / "x.html").read_text() == "<p>front"


def test_a_queued_job_may_be_run_from_anywhere(cli: Cli, model: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Paths are kept whole; names of no file are kept as they are."""
    monkeypatch.chdir(Path(model).parent)
    Path("text.txt").write_text("words " * 12000, encoding="utf-8")
    options = ["--budget", "50%", "--calibration", "text.txt", "--queue", "--json"]
    found = cli("submit", f"./{Path(model).name}", *options).json
    store = open_store(load_settings().database_url)
    spec = store.get_job(found["job"]).spec
    store.close()
    assert (spec.model, spec.calibration) == (model, str(Path(model).parent / "text.txt"))
    assert found["state"] == "QUEUED"


def test_a_detached_job_has_the_same_database(home: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Whatever the environment says: --home is stronger, also for the process that runs the job."""
    monkeypatch.setenv("TIGHTFIT_DATABASE_URL", f"sqlite:///{home}/elsewhere.db")
    settings = load_settings(home)
    process = Mock()
    monkeypatch.setattr("tightfit.work.subprocess.Popen", process)
    Service(settings).start_detached("one")
    assert load_settings(environment=process.call_args.kwargs["env"]) == settings


def test_dry_run(cli: Cli, model: str) -> None:
    """Sizes and costs as one document; nothing else on stdout, and no job is made."""
    found = cli("submit", model, "--budget", "50%", "--dry-run", "--json")
    assert found.exit_code == 0
    assert found.json["budget_bytes"] == found.json["dense_bytes"] // 2
    assert len(found.json["modules"]) == 1 + 2 * 7
    assert [u["level"] for u in found.json["uniform"]] == [f"b{bits}-g64" for bits in (2, 3, 4, 5, 6, 8)]
    assert int(found.json["num_plans"]) > 10**20
    assert cli("status", "--json").json == []


def test_dry_run_counts_the_cache(cli: Cli, model: str) -> None:
    """2 blocks x keys and values x 2 heads of 16 x bytes of a value, per token and sequence."""
    plain = cli("submit", model, "--budget", "60%", "--dry-run", "--json").json
    cached = cli("submit", model, "--budget", "60%", "--context", "8", "--batch", "2", "--dry-run", "--json").json
    assert cached["key_value_bytes"] in (2 * 2 * 2 * 16 * size * 8 * 2 for size in (2, 4))
    assert cached["smallest_bytes"] == plain["smallest_bytes"] + cached["key_value_bytes"]
    assert cached["uniform"][0]["size_bytes"] == plain["uniform"][0]["size_bytes"] + cached["key_value_bytes"]


def test_menu_options(cli: Cli, model: str) -> None:
    """Lists with spaces, repeats and `channel`."""
    menu = ["--bits", "4, 2,4", "--group-size", "64,channel,64", "--sparsity", "0,2:4", "--rank", "0,0"]
    menu += ["--kind", "integer, rotated-trellis"]
    found = cli("submit", model, "--budget", "3.5bpw", *menu, "--dry-run", "--json").json
    assert {m["levels"] for m in found["modules"] if m["kind"] == "linear"} == {2 * 2 * 2 + 2 * 2}
    assert [u["level"] for u in found["uniform"]] == ["b2-g64", "b4-g64"]


def test_tables_for_people(cli: Cli, model: str, done: SampleJob) -> None:
    """Without --json the same verbs print tables on stdout and nothing on stderr."""
    for arguments in (["status"], ["front", done.job.job_id], ["submit", model, "--budget", "50%", "--dry-run"]):
        found = cli(*arguments)
        assert (found.exit_code, found.err) == (0, "")
        assert len(found.out.splitlines()) > 1
        assert "…" not in found.out  # nothing is cut off, however narrow a terminal is


def test_front(cli: Cli, done: SampleJob) -> None:
    """The stored document, and the same points as CSV."""
    document = cli("front", done.job.job_id, "--json").json
    assert FrontDocument.from_json(document) == done.document
    rows = cli("front", done.job.job_id, "--csv").out.splitlines()
    assert rows[0].startswith("point,trial,size_bytes,bits_per_weight,kl_divergence,kl_low,kl_high,perplexity")
    assert rows[0].endswith("uniform_other,uniform_ratio,uniform_measurable,own_agreement,own_accuracy")
    assert [row.split(",")[0] for row in rows[1:]] == [p.point for p in done.document.front]
    assert {row.count(",") for row in rows} == {rows[0].count(",")}


def test_front_says_what_differs_measurably(cli: Cli, done: SampleJob) -> None:
    """A ratio to the next larger point and to the nearest uniform plan, marked where it is not measurable."""
    found = cli("front", done.job.job_id).out
    by_level = {u.level: u.size_bytes for u in done.document.uniform}
    ties = [p for p in done.document.front if p.versus_next is not None and not p.versus_next.measurable]
    assert found.count(" ~ ") >= len(ties) > 0
    for point in done.document.front:
        if point.versus_uniform is not None:
            assert f"{point.versus_uniform.ratio:.2f}x" in found
            share = by_level[point.versus_uniform.other] / point.size_bytes - 1
            (row,) = [line for line in found.splitlines() if f" {point.size_bytes:,} " in line and "x" in line]
            assert row.rstrip().endswith(f"{point.versus_uniform.other} {share:+.0%}" if abs(share) > 0.005 else "64")
    assert f"At the budget {done.document.marginal_price}." in found
    assert "Preliminary" not in found


def test_front_before_the_judgement(cli: Cli, done: SampleJob) -> None:
    """A front on search text is shown, and called what it is."""
    store = open_store(load_settings().database_url)
    store.update_job(done.job.job_id, document=replace(done.document, measured_on="search"))
    found = cli("front", done.job.job_id)
    assert "on search text" in found.out
    assert "Preliminary: measured on the text that the search used, not on held-out text." in found.out


def test_front_with_advice(cli: Cli, done: SampleJob) -> None:
    """What would make a front better stands below it; without advice there is no such line."""
    before = cli("front", done.job.job_id).out
    open_store(load_settings().database_url).update_job(
        done.job.job_id, document=replace(done.document, advice="Go on.")
    )
    after = cli("front", done.job.job_id).out
    assert [line for line in after.splitlines() if line not in before.splitlines()] == ["Go on."]


def test_front_of_a_job_without_one(cli: Cli, model: str, home: Path, done: SampleJob) -> None:
    """Exit 4, and how far the job is."""
    open_store(load_settings().database_url).create_job("young-wren-1", done.job.spec)
    found = cli("front", "young-wren-1", "--json")
    assert (found.exit_code, found.out) == (4, "")
    assert "young-wren-1 is QUEUED and has no front yet" in found.err


def test_cancel(cli: Cli, done: SampleJob) -> None:
    """A queued job is cancelled at once; a finished one is left alone; twice is as good as once."""
    open_store(load_settings().database_url).create_job("young-wren-1", done.job.spec)
    assert cli("cancel", "young-wren-1").out == "Job young-wren-1 is cancelled.\n"
    assert cli("cancel", "young-wren-1").out == "Job young-wren-1 is already cancelled.\n"
    assert cli("cancel", done.job.job_id).out == f"Job {done.job.job_id} is already done.\n"
    assert cli("pause", done.job.job_id).out == f"Job {done.job.job_id} is already done.\n"


def test_unknown_job_names_the_known(cli: Cli, done: SampleJob) -> None:
    """So that a slip of the finger is found at once."""
    assert f"the newest are {done.job.job_id}" in cli("front", "calm-otter-8").err


@pytest.mark.parametrize(
    "code", ["import tightfit.cli.app", "import sys; sys.argv[1:] = ['--help']; import tightfit.cli.app as c; c.main()"]
)
def test_help_is_light(code: str) -> None:
    """Nothing heavy is imported to show help."""
    report = "import sys, atexit; atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\n"
    done = subprocess.run([sys.executable, "-c", report + code], capture_output=True, text=True, check=True)
    assert "tightfit.cli.app" in done.stderr.split()
    assert [name for name in HEAVY if name in done.stderr.split()] == []


@pytest.mark.parametrize(
    "verb", ["submit", "status", "front", "explain", "export", "cancel", "resume", "ui", "doctor", "demo", "mlflow"]
)
def test_every_verb_explains_itself(cli: Cli, verb: str) -> None:
    """`--help` works everywhere, and a hidden verb stays hidden."""
    assert cli(verb, "--help").exit_code == 0
    listed = cli("--help").out
    assert verb in listed
    assert "Run a queued job" not in listed


def test_as_a_process() -> None:
    """`python -m tightfit` keeps stdout for the answer: a failed command prints one line elsewhere."""
    command = [sys.executable, "-m", "tightfit", "submit", "/nowhere", "--budget", "four", "--json"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert (done.returncode, done.stdout) == (2, "")
    assert done.stderr.startswith("tightfit: Budget 'four' cannot be read")


def test_version() -> None:
    """Numbers, as packagers want them."""
    assert json.dumps([int(part) for part in __version__.split(".")])


def test_export_of_a_front_before_the_judgement(capsys: pytest.CaptureFixture[str]) -> None:
    """What was recorded is said to be on search text."""
    from tightfit.exporting import Exported  # torch

    exported = Exported("out", "packed", "p1", 100, 120, 100, 110, 0.25, 0.24, 0.0, verified=True)
    show_export(exported)
    assert "KL 0.250000 (recorded 0.240000)\n" in capsys.readouterr().out
    show_export(replace(exported, refitted=True, refit_kl_divergence=0.2))
    assert "refit     KL 0.200000, kept\n" in capsys.readouterr().out
    show_export(replace(exported, refit_kl_divergence=0.3))
    assert "refit     KL 0.300000, not kept: it is not measurably better\n" in capsys.readouterr().out
    show_export(replace(exported, measured_on="search"))
    assert "(recorded 0.240000 on search text: the job has not judged its plans yet)" in capsys.readouterr().out
