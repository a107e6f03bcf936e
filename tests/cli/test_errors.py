"""Errors of the command line: one sentence on stderr, nothing on stdout, and the promised exit code."""

import re
from pathlib import Path

import pytest

from space import errors
from tests.cli.conftest import Cli, Done
from tightfit import cli as command_line


def _refused(done: Done, exit_code: int, *parts: str) -> None:
    assert (done.exit_code, done.out) == (exit_code, "")
    assert "Traceback" not in done.err
    assert done.err.startswith("tightfit: ")
    assert len(done.err.strip().splitlines()) == 1
    for part in parts:
        assert part in done.err


@pytest.mark.parametrize("budget", ["3", "-1GiB", "four"])
def test_budgets_that_are_none(cli: Cli, budget: str) -> None:
    """Before any model is looked at."""
    _refused(cli("submit", "/nowhere", f"--budget={budget}"), 2, repr(budget), "`4GiB`", "`60%`", "`3.25bpw`")


@pytest.mark.parametrize(("budget", "side"), [("1KiB", "below the smallest"), ("200GiB", "above the largest")])
def test_budgets_that_no_plan_reaches(cli: Cli, model: str, budget: str, side: str) -> None:
    """The message names the smallest and the largest reachable size, which a dry run confirms."""
    done = cli("submit", model, "--budget", budget)
    _refused(done, 3, side, "reachable are")
    reachable = re.search(r"reachable are ([\d,]+) to ([\d,]+) bytes", done.err)
    assert reachable is not None
    found = cli("submit", model, "--budget", "50%", "--dry-run", "--json").json
    assert [f"{found['smallest_bytes']:,}", f"{found['largest_bytes']:,}"] == list(reachable.groups())


@pytest.mark.parametrize("end", ["smallest_bytes", "largest_bytes"])
def test_the_ends_of_the_range_are_reachable(cli: Cli, model: str, end: str) -> None:
    """The sizes that the message names can be asked for, and nothing beyond them."""
    size = cli("submit", model, "--budget", "50%", "--dry-run", "--json").json[end]
    assert cli("submit", model, "--budget", f"{size}B", "--dry-run", "--json").json["budget_bytes"] == size
    beyond = size - 1 if end == "smallest_bytes" else size + 1
    assert cli("submit", model, "--budget", f"{beyond}B", "--dry-run").exit_code == 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--bits", "four"], "--bits: 'four'"),
        (["--bits", "1"], "bits"),
        (["--bits", ""], "bits"),
        (["--group-size", "wide"], "--group-size: 'wide'"),
        (["--group-size", "0"], "group_size=0"),
        (["--sparsity", "half"], "--sparsity: 'half'"),
        (["--sparsity", "1.5"], "sparsity"),
        (["--rank", "-1"], "rank"),
        (["--pin", "q_proj"], "REGEX=LEVEL"),
        (["--pin", "q_proj=b99"], "bits=99"),
        (["--pin", "q_proj=often"], "'often' is not a level"),
        (["--target", "gguf"], "target"),
        (["--sampler", "best"], "sampler"),
        (["--workers", "0"], "workers"),
        (["--max-trials", "0"], "max_trials"),
        (["--max-minutes", "0"], "max_minutes"),
        (["--context", "-1"], "context"),
    ],
)
def test_options_that_make_no_sense(cli: Cli, options: list[str], part: str) -> None:
    """The message names the option and what was given."""
    _refused(cli("submit", "/nowhere", "--budget", "60%", *options), 2, part)


@pytest.mark.parametrize(
    ("pin", "part"),
    [
        ("nothing=b4", "matches no module; names look like model."),
        ("(=b4", "not a regular expression"),
        ("embed=b4-r8", "cannot be stored"),
    ],
)
def test_pins_that_do_not_fit_the_model(cli: Cli, model: str, pin: str, part: str) -> None:
    """A pin that would silently do nothing is refused."""
    _refused(cli("submit", model, "--budget", "50%", "--pin", pin), 2, part)


def test_models_that_are_none(cli: Cli, tmp_path: Path) -> None:
    """No folder, or a folder of something else."""
    _refused(cli("submit", "/nowhere", "--budget", "60%"), 2, "/nowhere: no such folder")
    _refused(cli("submit", str(tmp_path), "--budget", "60%"), 2, "config.json cannot be read")


def test_calibration_text_that_is_missing(cli: Cli, model: str) -> None:
    """Before a job is made of it."""
    _refused(cli("submit", model, "--budget", "50%", "--calibration", "/nowhere.txt"), 2, "/nowhere.txt")
    assert cli("status", "--json").json == []


@pytest.mark.parametrize("verb", ["status", "front", "explain", "cancel", "resume", "run"])
def test_unknown_jobs(cli: Cli, verb: str) -> None:
    """The message says which jobs there are, or that there are none."""
    _refused(cli(verb, "j123456"), 2, "There is no job 'j123456'; no job was submitted yet.")


def test_unknown_job_to_export(cli: Cli, tmp_path: Path) -> None:
    """Nothing is written."""
    _refused(cli("export", "j123456", "--out", str(tmp_path / "new")), 2, "There is no job 'j123456'")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["submit"], ["submit", "m"], ["front"], ["status", "--frobnicate"]]
)
def test_usage(cli: Cli, arguments: list[str]) -> None:
    """What the parser refuses ends with 2 as well, and shows how to ask for help."""
    done = cli(*arguments)
    assert (done.exit_code, done.out) == (2, "")
    assert "--help" in done.err


@pytest.mark.parametrize(
    "name", ["UsageError", "BudgetError", "SpecError", "ModelError", "CalibrationError", "OutputError"]
)
def test_exit_code_of_usage_errors(name: str) -> None:
    """2: the user can mend it."""
    assert getattr(errors, name).exit_code == 2


@pytest.mark.parametrize(
    ("name", "exit_code"),
    [
        ("NotFoundError", 2),
        ("InfeasibleBudgetError", 3),
        ("JobFailedError", 4),
        ("StoreError", 4),
        ("VerificationError", 4),
    ],
)
def test_exit_codes(cli: Cli, monkeypatch: pytest.MonkeyPatch, name: str, exit_code: int) -> None:
    """Each kind of error ends the command line with its own code."""

    def fail(_: Path | None) -> None:
        raise getattr(errors, name)("what, where, what next.")

    monkeypatch.setattr(command_line, "open_service", fail)
    _refused(cli("status"), exit_code, "tightfit: what, where, what next.")


def test_interrupt(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is 130, as in any shell."""

    def interrupt(_: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "open_service", interrupt)
    done = cli("status")
    assert (done.exit_code, done.out) == (130, "")
    assert "Traceback" not in done.err


def test_a_database_that_cannot_be_used(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is no database is not overwritten."""
    (tmp_path / "no.db").write_text("this is not a database, and it is longer than a header of one would be ........")
    monkeypatch.setenv("TIGHTFIT_DATABASE_URL", f"sqlite:///{tmp_path / 'no.db'}")
    done = cli("status")
    assert (done.exit_code, done.out) == (4, "")
    assert "Traceback" not in done.err
    assert (tmp_path / "no.db").read_text().startswith("this is not")
