"""Errors of the command line: one sentence on stderr, nothing on stdout, and the promised exit code."""

import re
import tempfile
from importlib.util import find_spec
from pathlib import Path

import pytest

from space import errors
from tests.cli.conftest import Cli, Done
from tightfit.cli import jobs as command_line
from tightfit.cli.base import open_service


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


@pytest.mark.parametrize(
    ("budget", "side"), [("1KiB", "below the smallest plan"), ("200GiB", "the dense checkpoint fits already")]
)
def test_budgets_that_make_no_sense(cli: Cli, model: str, budget: str, side: str) -> None:
    """The message names the smallest size and the dense one, which a dry run confirms."""
    done = cli("submit", model, "--budget", budget)
    _refused(done, 3, side, "--kind")
    sizes = re.search(r"smallest plan has ([\d,]+) .*dense checkpoint ([\d,]+)", done.err)
    assert sizes is not None
    found = cli("submit", model, "--budget", "50%", "--dry-run", "--json").json
    assert [f"{found['smallest_bytes']:,}", f"{found['dense_bytes']:,}"] == list(sizes.groups())


def test_sequences_longer_than_the_model_takes(cli: Cli, model: str) -> None:
    """The message names the option and the longest sequence, which is taken."""
    options = ("submit", model, "--budget", "50%", "--dry-run", "--json")
    _refused(cli(*options, "--sequence-length", "257"), 2, "has 256 positions", "give --sequence-length 256 or less")
    assert cli(*options, "--sequence-length", "256").exit_code == 0


@pytest.mark.parametrize(("asked", "counts"), [(64, (64, 16, 32)), (3, (3, 2, 2)), (1000, (1000, 250, 500))])
def test_sequences_of_all_splits(cli: Cli, home: Path, model: str, asked: int, counts: tuple[int, int, int]) -> None:
    """One number says how much text: a quarter to search and half to judge, as by default."""
    job = cli("submit", model, "--budget", "50%", "--queue", "--json", "--num-sequences", str(asked)).json["job"]
    spec = open_service(home).store.get_job(job).spec
    assert (spec.num_samples, spec.num_search_samples, spec.num_held_out_samples) == counts


def test_a_cache_above_the_budget_is_named(cli: Cli, model: str) -> None:
    """It is what should be smaller then, not the menu."""
    done = cli("submit", model, "--budget", "50%", "--context", "1000000")
    _refused(done, 3, "below the smallest plan", "of key/value cache for --context and --batch")


def test_budgets_between_are_reachable(cli: Cli, model: str) -> None:
    """From the smallest plan to just below the dense checkpoint, where a narrow menu has no plan so large too."""
    found = cli("submit", model, "--budget", "50%", "--dry-run", "--json").json
    low, dense = found["smallest_bytes"], found["dense_bytes"]
    for size, narrow in ((low, []), (dense - 1, []), (dense - 1, ["--bits", "2,3"])):
        done = cli("submit", model, "--budget", f"{size}B", *narrow, "--dry-run", "--json")
        assert done.json["budget_bytes"] == size
    for size in (low - 1, dense):
        assert cli("submit", model, "--budget", f"{size}B", "--dry-run").exit_code == 3


@pytest.mark.parametrize(
    ("options", "part"),
    [
        (["--bits", "four"], "--bits: 'four'"),
        (["--bits", "1"], "--bits 1: integer,rotated-trellis has none of these bit-widths"),
        (["--bits", ""], "--bits"),
        (["--kind", "gguf"], "--kind gguf"),
        (["--worker-memory", "much"], "--worker-memory much"),
        (["--group-size", "wide"], "--group-size: 'wide'"),
        (["--group-size", "0"], "`channel` is one scale per row"),
        (["--sparsity", "half"], "--sparsity: 'half'"),
        (["--sparsity", "1.5"], "sparsity"),
        (["--rank", "-1"], "rank"),
        (["--pin", "q_proj"], "REGEX=LEVEL"),
        (["--pin", "q_proj=b99"], "bits=99"),
        (["--pin", "q_proj=often"], "'often' is not a level"),
        (["--target", "tflite"], "--target tflite"),
        (["--target", "compressed-tensors", "--rank", "0,8"], "--rank 0,8: compressed-tensors holds plain integers"),
        (["--target", "compressed-tensors", "--kind", "trellis"], "--kind trellis: compressed-tensors holds"),
        (["--sampler", "best"], "sampler"),
        (["--workers", "0"], "workers"),
        (["--max-trials", "0"], "--max-trials 0"),
        (["--max-minutes", "0"], "--max-minutes 0"),
        (["--context", "-1"], "context"),
        (["--sequence-length", "4"], "--sequence-length 4"),
        (["--num-sequences", "0"], "--num-sequences 0"),
        (["--num-sequences", "-5"], "--num-sequences -5"),
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
        ("a{99999999999}=b4", "not a regular expression: it is too large"),
        ("(.*)*(.*)*(.*)*(.*)*x=b4", "takes too"),
        ("x" * 20_000 + "=b4", "longer than 1,000 characters"),
        ("[[a]z=b4", "matches no module"),
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
    """Before a job is made of it, and in a dry run; a name of no file needs what reads datasets."""
    for source in ("/nowhere.txt", "no/such.jsonl"):
        for more in ([], ["--dry-run"]):
            done = cli("submit", model, "--budget", "50%", "--calibration", source, *more)
            _refused(done, 2, f"{source}: no such file")
    if find_spec("datasets") is None:
        done = cli("submit", model, "--budget", "50%", "--calibration", "org/name")
        _refused(done, 2, "pip install datasets")
    assert cli("status", "--json").json == []


@pytest.mark.parametrize(
    ("options", "part"), [(["--json", "--csv"], "choose one"), (["--explain"], "--explain adds to --json")]
)
def test_answers_that_cannot_be_given_together(cli: Cli, options: list[str], part: str) -> None:
    """None of them is silently left out."""
    _refused(cli("front", "j123456", *options), 2, part)


@pytest.mark.parametrize("verb", ["status", "front", "explain", "cancel", "resume", "run"])
def test_unknown_jobs(cli: Cli, verb: str) -> None:
    """The message says which jobs there are, or that there are none."""
    _refused(cli(verb, "j123456"), 2, "There is no job 'j123456'; no job was submitted yet.")


def test_unknown_job_to_export(cli: Cli, tmp_path: Path) -> None:
    """Nothing is written."""
    _refused(cli("export", "j123456", "--out", str(tmp_path / "new")), 2, "There is no job 'j123456'")
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize(
    "arguments", [["frobnicate"], ["submit"], ["submit", "m"], ["pause"], ["export"], ["status", "--frobnicate"]]
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

    monkeypatch.setattr(command_line, "open_place", fail)
    _refused(cli("status"), exit_code, "tightfit: what, where, what next.")


def test_interrupt(cli: Cli, monkeypatch: pytest.MonkeyPatch) -> None:
    """Ctrl-C is 130, as in any shell."""

    def interrupt(_: Path | None) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr(command_line, "open_place", interrupt)
    done = cli("status")
    assert (done.exit_code, done.out) == (130, "")
    assert "Traceback" not in done.err


@pytest.mark.parametrize(
    ("error", "told"),
    [
        (KeyError("budget"), "KeyError: 'budget'"),
        (RecursionError("maximum recursion depth exceeded"), "RecursionError: maximum"),
        (MemoryError(), "(MemoryError:)"),
        (ValueError("two\nlines \ud800 " + "x" * 1000), "ValueError: two lines \\ud800 xxx"),
        (ModuleNotFoundError("No module named 'torch'"), "No module named"),
        (OSError(28, "No space left on device"), "No space left"),
    ],
)
@pytest.mark.parametrize("has_home", [True, False])
def test_what_nobody_foresaw(
    cli: Cli,
    home: Path,
    monkeypatch: pytest.MonkeyPatch,
    error: Exception,
    told: str,
    has_home: bool,  # noqa: FBT001
) -> None:
    """One sentence with the place of the traceback: in the home, or elsewhere where that is none; exit code 4."""

    def fail(_: Path | None) -> None:
        raise error

    if has_home:
        home.mkdir()
    monkeypatch.setattr(tempfile, "tempdir", str(home.parent))
    monkeypatch.setattr(command_line, "open_place", fail)
    done = cli("status")
    _refused(done, 4, "an error that it does not know", told, "please report it with")
    assert len(done.err) < 600
    assert home.exists() == has_home
    (log,) = home.parent.rglob("error-*.log")
    assert (log.parent, log.stat().st_mode & 0o777) == (home / "logs" if has_home else home.parent, 0o600)
    assert str(log) in done.err
    assert log.read_text(encoding="utf-8").startswith("Traceback")
    assert "in fail\n" in log.read_text(encoding="utf-8")


def test_the_home_that_is_named_keeps_the_traceback(cli: Cli, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """As an option in either spelling, the last one counting; one that cannot be is none."""

    def fail(_: Path | None) -> None:
        raise RuntimeError

    monkeypatch.setattr(command_line, "open_place", fail)
    monkeypatch.setattr(tempfile, "tempdir", str(tmp_path))
    named = tmp_path / "named"
    named.mkdir()
    for options in (["--home", str(named)], [f"--home={named}"], ["--home", "/nowhere", "--home", str(named)]):
        assert f"{named}/logs/error-" in cli("status", *options).err
    for other in ("/nowhere", "~nobodyx/", "x" * 300):
        assert f"report it with {tmp_path}/error-" in cli("status", "--home", other).err


@pytest.mark.parametrize("where", ["~nobodyx/", "x" * 300, "y/" * 3000])
@pytest.mark.parametrize("place", ["home", "model", "calibration", "out"])
def test_paths_that_none_can_be(cli: Cli, model: str, where: str, place: str) -> None:
    """Whatever they are for."""
    options = {
        "home": ("status", "--home", where),
        "model": ("submit", where, "--budget", "50%"),
        "calibration": ("submit", model, "--budget", "50%", "--calibration", where),
        "out": ("export", "j123456", "--out", where),
    }
    _refused(cli(*options[place]), 2, "cannot be used as a path")


def test_a_database_that_cannot_be_used(cli: Cli, monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    """A file that is no database is not overwritten."""
    (tmp_path / "no.db").write_text("this is not a database, and it is longer than a header of one would be ........")
    monkeypatch.setenv("TIGHTFIT_DATABASE_URL", f"sqlite:///{tmp_path / 'no.db'}")
    done = cli("status")
    assert (done.exit_code, done.out) == (4, "")
    assert "Traceback" not in done.err
    assert (tmp_path / "no.db").read_text().startswith("this is not")
