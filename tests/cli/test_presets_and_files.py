"""`submit --preset` and `submit --config`: who is stronger, and what is refused."""

import json
from pathlib import Path

import pytest

from space.requests.presets import PRESETS
from space.spec import JobSpec
from storage.open_store import open_store
from tests.cli.conftest import Cli
from tightfit.config import load_settings

THOROUGH = PRESETS["thorough"].values


def asked(cli: Cli, *arguments: str) -> JobSpec:
    """Return the request of a dry run."""
    done = cli("submit", *arguments, "--dry-run", "--json")
    assert done.exit_code == 0, done.err
    return JobSpec(**done.json["request"])


def test_a_file_is_the_job_that_was_looked_at(cli: Cli, model: str, tmp_path: Path) -> None:
    """Written by a dry run, read again by one, and kept with the job: the same digest three times."""
    file = tmp_path / "job.toml"
    looked = asked(cli, model, "--budget", "50%", "--preset", "quick", "--pin", r"q_proj\b=b4-g64", "--out", str(file))
    assert asked(cli, "--config", str(file)).digest == looked.digest
    done = cli("submit", "--config", str(file), "--queue", "--json")
    kept = open_store(load_settings().database_url).get_job(done.json["job"]).spec
    assert (kept, kept.digest) == (looked, looked.digest)


def test_options_are_stronger_than_files_and_files_than_presets(cli: Cli, model: str, tmp_path: Path) -> None:
    """And the dry run says of each key who said it."""
    file = tmp_path / "job.toml"
    file.write_text(
        f'preset = "quick"\nmodel = "{model}"\nbudget = "50%"\nranks = [0, 4]\nseed = 5\nsparsities = [0.25]\n'
    )
    spec = asked(cli, "--config", str(file), "--seed", "7", "--sparsity", "0")
    assert (spec.seed, spec.sparsities, spec.ranks) == (7, (0.0,), (0, 4))
    assert (spec.max_trials, spec.num_samples) == (100, 32)
    assert asked(cli, "--config", str(file), "--preset", "balanced").max_trials is None
    shown = cli("submit", "--config", str(file), "--seed", "7", "--dry-run").out
    rows = {words[0]: words[1:] for words in map(str.split, shown.splitlines()) if words}
    assert rows["seed"] == ["7", "--seed"]
    assert rows["ranks"] == ["0,", "4", str(file)]
    assert rows["max_trials"] == ["100", "preset", "quick"]
    assert rows["workers"] == ["2", "default"]


def test_a_device_leaves_a_budget(cli: Cli, model: str) -> None:
    """What its runtime does not take; the cache is a part of it."""
    least, cache = 2**29, ["--context", "64"]
    told = cli("submit", model, "--budget", "50%", *cache, "--dry-run", "--json").json
    spec = asked(cli, model, "--device-memory", f"{least + told['budget_bytes'] + told['key_value_bytes']}B", *cache)
    left = f"{told['budget_bytes'] + told['key_value_bytes']}B"
    assert spec.budget == left
    both = asked(cli, model, "--device-memory", f"{least + int(left[:-1])}B", "--budget", "9tok/s@1GB/s", *cache)
    assert both.budget == f"9tok/s@1GB/s,{left}"


@pytest.mark.parametrize("preset", PRESETS)
def test_a_dry_run_prints_all_that_a_preset_sets(cli: Cli, model: str, preset: str) -> None:
    """Every key of the table, by name."""
    shown = cli("submit", model, "--budget", "50%", "--preset", preset, "--dry-run").out
    told = {line.split()[0] for line in shown.splitlines() if line.rstrip().endswith(f"preset {preset}")}
    assert told == set(PRESETS[preset].values)


@pytest.mark.parametrize(
    ("text", "options", "told"),
    [
        ('model = "m"\nbudget = "four"', [], "job.toml, budget: Budget 'four' cannot be read"),
        ('model = "m"\nbudget = "60%"\nbits = [99]', [], "job.toml, bits: 99: "),
        ('model = "m"\nbudget = "60%"\nseed = "many"', [], "job.toml, seed: many: "),
        ('model = "m"\nbudget = "60%"\nkinds = ["exl3"]\nbits = [16, 16]', [], "job.toml, bits: 16,16: "),
        (
            'model = "m"\nbudget = "60%"\nkinds = ["trellis"]\ntarget = "gguf"',
            [],
            "job.toml, kinds: gguf holds",
        ),
        (
            'model = "m"\nbudget = "60%"\npreset = "slow"',
            [],
            "job.toml, preset: 'slow' is not known; there are quick, ",
        ),
        ('model = "m"\nbudget = "60%"', ["--preset", "slow"], "--preset 'slow' is not known; there are quick, "),
        ('model = "m"\nbudget = "60%"', ["--like", "j1"], "There is no job 'j1'"),
        ('model = "m"', [], "--budget is missing: give one, such as 60%, or a file that has it (--config)"),
        ('model = "m"', ["--device-memory", "1GiB"], "say how many tokens the cache holds, too (--context)"),
        ('model = "m"', ["--device-memory", "60%", "--context", "64"], "--device-memory '60%' is no size"),
        (
            'model = "m"\ncontext = 64',
            ["--device-memory", "512MiB"],
            "--device-memory '512MiB': the runtime alone takes 512.00 MiB of a device",
        ),
        ('model = "m"\nbudget = "60%"', ["--out", "new.toml"], "--out new.toml: it writes what --dry-run shows"),
        (
            'model = "m"\nbudget = "60%"\n' + "\n".join(f"{k} = {json.dumps(v)}" for k, v in THOROUGH.items()),
            ["--preset", "thorough"],
            "job.toml says all that it would say. Leave one of them out.",
        ),
    ],
)
def test_what_contradicts_is_refused(cli: Cli, tmp_path: Path, text: str, options: list[str], told: str) -> None:
    """In one sentence with the file and its key, before any model is read."""
    file = tmp_path / "job.toml"
    file.write_text(text)
    done = cli("submit", "--config", str(file), *options)
    assert (done.exit_code, done.out) == (2, "")
    assert told in done.err


def test_a_job_and_a_file_are_not_both_followed(cli: Cli, model: str, tmp_path: Path) -> None:
    """A request of a job is whole."""
    job = cli("submit", model, "--budget", "50%", "--queue", "--json").json["job"]
    for option in (["--preset", "quick"], ["--config", str(tmp_path / "job.toml")]):
        done = cli("submit", "--like", job, *option)
        assert f"--like and {option[0]}: a job's request is whole" in done.err
    again = cli("submit", "--like", job, "--budget", "40%", "--queue", "--json").json["job"]
    store = open_store(load_settings().database_url)
    assert store.get_job(again).spec == store.get_job(job).spec.model_copy(update={"budget": "40%"})


@pytest.mark.parametrize("name", ["missing.toml", "."])
def test_files_that_cannot_be_read(cli: Cli, tmp_path: Path, name: str) -> None:
    """Named, with what is wanted."""
    done = cli("submit", "--config", str(tmp_path / name))
    assert done.exit_code == 2
    assert f"--config {tmp_path / name}: cannot be read (" in done.err
    assert "name a TOML or JSON file of a job" in done.err


def test_a_plan_of_others_is_shown_by_its_name(cli: Cli, model: str, tmp_path: Path) -> None:
    """In the dry run, with how many modules it names."""
    path = tmp_path / "theirs.txt"
    path.write_text("model.layers.0.mlp.down_proj: 4\n")
    told = cli(
        "submit", model, "--budget", "50%", "--plan", str(path), "--pin", "0.mlp.down_proj=b4-g64", "--dry-run"
    ).out
    assert "theirs (1 modules)" in told
    assert "0.mlp.down_proj=b4-g64" in told
