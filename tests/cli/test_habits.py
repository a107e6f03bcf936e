"""Habits of command lines: what one types without reading, and what must not happen then."""

import os
import shlex
import subprocess
import sys
from pathlib import Path
from typing import get_args

import pytest

from space.requests.presets import PresetName
from space.spec import SamplerName, make_spec
from space.targets.target_table import TARGETS
from storage.open_store import open_store
from tests.cli.conftest import Cli
from tests.storage.sample_job import SampleJob
from tightfit import __version__
from tightfit.cli.hints import unfilled
from tightfit.cli.submitting.submit_options import PRESETS, SAMPLERS
from tightfit.config import load_settings

HOMELESS = [
    ["status"],
    ["logs"],
    ["front", "j1"],
    ["explain", "j1"],
    ["export", "j1", "--out", "new"],
    ["pause", "j1"],
    ["resume", "j1"],
    ["run", "j1"],
    ["gc"],
    ["mlflow", "sync", "j1"],
]


def test_version(cli: Cli) -> None:
    """One line, for bug reports."""
    assert cli("--version").out == f"tightfit {__version__}\n"


@pytest.mark.parametrize("verb", [[], ["submit"], ["db", "check"], ["mlflow", "sync"], ["logs"]])
def test_short_help(cli: Cli, verb: list[str]) -> None:
    """`-h` is `--help`, everywhere."""
    assert cli(*verb, "-h").out == cli(*verb, "--help").out != ""


@pytest.mark.parametrize(
    ("line", "expected"),
    [("tightfit sta", "status"), ("tightfit submit m --sampler n", "nsga2"), ("tightfit front c", "calm-otter-7")],
)
def test_completion(done: SampleJob, line: str, expected: str) -> None:
    """Of verbs, of values, and of jobs, which are read from the home."""
    words = shlex.split(line)
    asked = {"_TIGHTFIT_COMPLETE": "complete_bash", "COMP_WORDS": line, "COMP_CWORD": str(len(words) - 1)}
    code = "import sys; sys.argv = ['tightfit']; from tightfit.cli.app import main; main()"
    command = [sys.executable, "-c", code]
    found = subprocess.run(command, capture_output=True, text=True, env=os.environ | asked, check=False)
    assert found.stdout.split() == [expected]


def test_choices_are_in_help(cli: Cli) -> None:
    """All that the program takes, and no other."""
    assert get_args(SamplerName) == SAMPLERS
    assert get_args(PresetName) == PRESETS
    told = "".join(cli("submit", "-h").out.replace("│", " ").split())
    assert f"[{'|'.join(SAMPLERS)}]" in told
    assert f"[{'|'.join(TARGETS)}]"[:16] in told
    assert f"[{'|'.join(PRESETS)}]"[:16] in told


@pytest.mark.parametrize("verb", [["front", "--json"], ["front", "--csv"], ["front"]])
def test_the_newest_front_where_no_job_is_named(cli: Cli, done: SampleJob, verb: list[str]) -> None:
    """Said on stderr; a newer job without one does not hide it."""
    open_store(load_settings().database_url).create_job("young-wren-1", done.job.spec)
    found = cli(*verb)
    assert found.out == cli(*verb, done.job.job_id).out
    assert found.err == f"Job {done.job.job_id}: {done.job.spec.model} to 5MiB.\n"


@pytest.mark.parametrize("verb", [["front"], ["explain"], ["export", "--out", "new"], ["logs"], ["status", "--watch"]])
def test_no_job_to_be_the_newest(cli: Cli, home: Path, verb: list[str]) -> None:
    """One sentence that says how to make one; no home is made."""
    found = cli(*verb)
    assert (found.exit_code, found.out, home.exists()) == (2, "", False)
    assert found.err.startswith("tightfit: There are no jobs yet; `tightfit submit")


@pytest.mark.parametrize("verb", HOMELESS, ids=" ".join)
def test_a_mistyped_home_is_not_made(cli: Cli, home: Path, tmp_path: Path, verb: list[str]) -> None:
    """Named as an option it is refused; from the environment there are no jobs in it, and there still is none."""
    found = cli(*verb, "--home", str(tmp_path / "hmoe"))
    assert (found.exit_code, found.out) == (2, "")
    assert f"--home {tmp_path / 'hmoe'}: no job was submitted there yet" in found.err
    cli(*verb)
    assert [path.name for path in tmp_path.iterdir()] == []


def test_a_dry_run_makes_no_home(cli: Cli, home: Path, model: str, tmp_path: Path) -> None:
    """It reads headers, and remembers nothing; it needs no home either, named or not."""
    for named in ([], ["--home", str(tmp_path / "new")]):
        assert cli("submit", model, "--budget", "50%", "--dry-run", "--json", *named).exit_code == 0
    assert not (home / "tightfit.db").exists()
    assert not (tmp_path / "new").exists()


def test_dry_run_groups_modules(cli: Cli, model: str) -> None:
    """Those that differ in their block alone are one row; what is pinned stands apart, by its block."""
    plain = cli("submit", model, "--budget", "50%", "--dry-run").out
    assert [" ".join(line.split()[:3]) for line in plain.splitlines() if line.strip().startswith("model.")][:3] == [
        "model.embed_tokens x 1",
        "model.layers.[0-1].self_attn.q_proj x 2",
        "model.layers.[0-1].self_attn.k_proj x 2",
    ]
    pinned = cli("submit", model, "--budget", "50%", "--pin", r"layers\.1\.self_attn\.q_proj=b4-g64", "--dry-run").out
    assert "model.layers.0.self_attn.q_proj " in pinned
    assert "model.layers.1.self_attn.q_proj " in pinned
    assert "model.layers.[0-1].self_attn.k_proj " in pinned


@pytest.mark.parametrize(
    ("options", "told"),
    [
        (
            ["--out", "{new}", "--format", "onyx"],
            "--format 'onyx' is not known; use packed, compressed-tensors, gguf, exl3, onnx, mlx or vllm.",
        ),
        (["--out", "{new}", "--point", "p99"], "has no point 'p99'; its front has p0, p1"),
        (["--out", "{new}", "--budget", "much"], "Budget 'much' cannot be read"),
        (["--out", "{new}", "--budget", "3MB", "--point", "p1"], "--point p1 and --budget 3MB: choose one"),
        (["--out", "{taken}"], "already there and not empty"),
        (["--out", "{taken}/file/new"], "file is a file"),
        (["--out", "~nobodyx/new"], "cannot be used as a path"),
        (["--out", "x" * 300], "cannot be used as a path"),
    ],
)
def test_wishes_are_refused_before_anything_heavy(
    cli: Cli, done: SampleJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, options: list[str], told: str
) -> None:
    """In one sentence; nothing is written, and what is slow to import is not."""
    (tmp_path / "taken").mkdir()
    (tmp_path / "taken" / "file").touch()
    monkeypatch.setitem(sys.modules, "tightfit.exporting", None)  # importing it would fail
    places = {"{new}": str(tmp_path / "new"), "{taken}": str(tmp_path / "taken")}
    for name, place in places.items():
        options = [option.replace(name, place) for option in options]
    found = cli("export", done.job.job_id, *options)
    assert (found.exit_code, found.out) == (2, "")
    assert told in found.err
    assert len(found.err.splitlines()) == 1
    assert not (tmp_path / "new").exists()


@pytest.mark.parametrize("verb", ["export", "front"])
def test_a_tilde_is_the_home(
    cli: Cli, done: SampleJob, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, verb: str
) -> None:
    """Also where a shell leaves it alone, as in `--out=~/x`: no folder of that name is made here."""
    monkeypatch.setenv("HOME", str(tmp_path / "user"))
    monkeypatch.chdir(tmp_path)
    (tmp_path / "user").mkdir()
    if verb == "export":
        (tmp_path / "user" / "x").write_text("taken")
        assert f"{tmp_path}/user/x: already there" in cli("export", done.job.job_id, "--out=~/x").err
    else:
        monkeypatch.setattr("tightfit.service.Service.report", lambda *_: "<p>front")
        assert cli("front", done.job.job_id, "--html=~/x").exit_code == 0
        assert (tmp_path / "user" / "x").read_text() == "<p>front"
    assert not (tmp_path / "~").exists()


def test_options_like_those_of_another_job(cli: Cli, model: str) -> None:
    """What is not given is as it was there, also what has no option; what is given counts, also a default."""
    store = open_store(load_settings().database_url)
    first = make_spec(
        model=model, budget="50%", context=8, batch=2, bits=(2, 4), group_sizes=(64, None), kinds=("integer",),
        sparsities=(0.0, "2:4"), pins=(("q_proj", "b4-g64"),), max_minutes=2.5, refine=True, seed=3,
        sequence_length=32, num_samples=9, num_search_samples=5, num_held_out_samples=7,
    )  # fmt: skip
    store.create_job("first", first)
    done = cli("submit", model, "--budget", "40%", "--like", "first", "--queue", "--json")
    assert store.get_job(done.json["job"]).spec == first.model_copy(update={"budget": "40%"})
    options = ["--seed", "0", "--bits", "2,3,4", "--max-minutes", "9", "--pin", "k_proj=b2"]
    done = cli("submit", model, "--budget", "40%", "--like", "first", *options, "--queue", "--json")
    given = {"budget": "40%", "seed": 0, "bits": (2, 3, 4), "max_minutes": 9.0, "pins": (("k_proj", "b2"),)}
    assert store.get_job(done.json["job"]).spec == first.model_copy(update=given)
    store.create_job("plain", first.model_copy(update={"target": "compressed-tensors"}))
    told = cli("submit", model, "--budget", "40%", "--like", "plain", "--rank", "0,8").err
    assert "--rank 0,8: compressed-tensors holds plain integers only" in told
    assert "There is no job 'other'" in cli("submit", model, "--budget", "40%", "--like", "other").err


@pytest.mark.parametrize("named", [None, Path("/some where")])
def test_what_a_budget_leaves_unused_is_told(done: SampleJob, named: Path | None) -> None:
    """From a hundredth of it on, with the command of a job that would fill it."""
    spec = done.job.spec
    told = unfilled(done.job.job_id, done.job.spec.model, 2_208_000, "2.3MB", 2_300_000, named)
    assert told is not None
    assert told.startswith("92,000 of 2,300,000 bytes are left unused")
    again = f"tightfit submit {spec.model} --budget 2.3MB --like {done.job.job_id}"
    assert told.endswith(again + ("" if named is None else " --home '/some where'"))
    assert unfilled(done.job.job_id, done.job.spec.model, 2_280_000, "2.3MB", 2_300_000, named) is None
    assert unfilled(done.job.job_id, done.job.spec.model, 2_300_000, "2.3MB", 2_300_000, named) is None


@pytest.mark.parametrize(("budget", "is_told"), [("5MB", True), ("60%", True), (None, False)])
def test_an_export_that_leaves_much_of_its_budget_says_so(
    cli: Cli,
    done: SampleJob,
    monkeypatch: pytest.MonkeyPatch,
    budget: str | None,
    is_told: bool,  # noqa: FBT001
) -> None:
    """On stderr, beside the answer; without a budget of its own there is nothing to fill."""
    from tightfit.exporting import Exported  # torch

    point = done.document.front[0]
    exported = Exported("out", "packed", point.point, 9, 9, 9, 2 * point.size_bytes, 0.2, 0.2, 0.0, verified=True)
    monkeypatch.setattr("tightfit.service.Service.export", lambda *_, **__: exported)
    found = cli("export", done.job.job_id, "--out", "new", *(["--budget", budget] if budget else []), "--json")
    assert found.json["point"] == point.point
    again = f"tightfit submit {done.job.spec.model} --budget {budget} --like {done.job.job_id}"
    assert (again in found.err) == is_told
    assert (f"{point.size_bytes:,} of {2 * point.size_bytes:,} bytes are left unused" in found.err) == is_told


def test_looking_is_light(done: SampleJob) -> None:
    """Status and fronts are there before a library could be imported that computes something."""
    heavy = ("torch", "transformers", "ray", "optuna", "mlflow", "alembic", "datasets", "pandas", "matplotlib")
    for verb, more in ((["status"], ("numpy", "rich")), (["logs"], ("numpy", "rich")), (["front"], ())):
        code = f"import sys; sys.argv[1:] = {verb}; import tightfit.cli.app as c, atexit\n"
        code += "atexit.register(lambda: print(*sys.modules, sep='\\n', file=sys.stderr))\nc.main()"
        found = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=False)
        assert "storage.sql.sql_store" in found.stderr.split()
        assert [name for name in (*heavy, *more) if name in found.stderr.split()] == []
