"""What others may rely on: names, verbs, options and fields change only together with these lists."""

import inspect
import subprocess
import sys
import tomllib
from importlib import import_module
from pathlib import Path

import typer
from setuptools import find_packages  # type: ignore[import-untyped]

import tightfit
from space.results.document import FrontDocument
from space.spec import JobSpec
from tightfit.cli.app import app
from tightfit.service import Service

ROOT = Path(__file__).resolve().parent.parent
VERBS = [
    *("cancel", "convert", "db", "delete", "demo", "describe", "doctor", "explain", "export", "exports", "front", "gc"),
    *("logs", "mlflow"),
    *(
        "pause",
        "recover",
        "resume",
        "run",
        "serve",
        "speed",
        "status",
        "student",
        "study",
        "submit",
        "token",
        "ui",
        "upload",
        "work",
    ),
]
SUBMIT_OPTIONS = {
    *{
        "--batch",
        "--bits",
        "--experts",
        "--budget",
        "--cache-bits",
        "--calibration",
        "--context",
        "--detach",
        "--device-memory",
        "--dry-run",
        "--gpu-generation",
        "--group-size",
        "--home",
    },
    *{
        "--json",
        "--judge",
        "--kind",
        "--max-minutes",
        "--max-trials",
        "--like",
        "--pin",
        "--plan",
        "--queue",
        "--rank",
        "--recover",
        "--refine",
        "--sampler",
    },
    *{"--config", "--out", "--preset"},
    *{"--num-sequences", "--seed", "--sequence-length", "--sparsity", "--target", "--worker-memory", "--workers"},
}
SPEC_FIELDS = [
    *(
        "model",
        "revision",
        "budget",
        "context",
        "batch",
        "calibration",
        "judge",
        "target",
        "gpu_generation",
        "experts",
        "bits",
        "group_sizes",
        "sparsities",
    ),
    *(
        "ranks",
        "kinds",
        "cache_bits",
        "pins",
        "plans",
        "sampler",
        "max_trials",
        "max_minutes",
        "refine",
        "recover",
        "workers",
        "worker_memory",
        "seed",
    ),
    "sequence_length",
    *("num_samples", "num_search_samples", "num_held_out_samples"),
]
SERVICE_VERBS = {
    *{
        "cancel",
        "delete",
        "dry_run",
        "export",
        "front",
        "mlflow_uri",
        "plans",
        "report",
        "requeue",
        "run",
        "start_detached",
    },
    *{"explain", "explanations", "free_unneeded", "pause", "serve", "start_detached", "submit", "sync_mlflow"},
    *{"cancel_task", "queue_export", "requeue_task", "run_export", "tasks", "write_study"},
    *{"queue_recovery", "recover", "run_recovery"},
}


def test_public_names() -> None:
    """`tightfit` offers these names, and each can be had."""
    assert tightfit.__all__ == ["AsyncClient", "Client", "JobSpec", "Service", "TightfitError", "__version__"]
    assert tightfit.JobSpec is JobSpec
    assert tightfit.Service is Service
    assert issubclass(tightfit.TightfitError, Exception)
    modules = {name for name, value in vars(tightfit).items() if inspect.ismodule(value)}
    hints = {"Any", "Path", "TYPE_CHECKING", "find_spec"}
    public = {name for name in vars(tightfit) if not name.startswith("_")} - modules - hints
    assert public <= set(tightfit.__all__)


def test_unknown_names_are_attribute_errors() -> None:
    """As in any module."""
    assert not hasattr(tightfit, "frobnicate")


def test_top_level_packages() -> None:
    """An installation brings exactly these import names."""
    include = tomllib.loads((ROOT / "pyproject.toml").read_text())["tool"]["setuptools"]["packages"]["find"]["include"]
    found = find_packages(str(ROOT), include=include)
    assert {name.partition(".")[0] for name in found} == {"tightfit", "search", "space", "storage", "workers"}
    folders = {path.parent for top in found if "." not in top for path in (ROOT / top).rglob("*.py")}
    assert {str(folder.relative_to(ROOT)).replace("/", ".") for folder in folders} == set(found)


def test_a_shadowing_module_is_a_clear_error(tmp_path: Path) -> None:
    """Somebody's own search.py is named, with what to do."""
    (tmp_path / "search.py").write_text("raise SystemExit('the wrong search was run')\n")
    code = f"import sys; sys.path[:0] = [{str(tmp_path)!r}, {str(ROOT)!r}]; import tightfit"
    done = subprocess.run([sys.executable, "-c", code], cwd="/", capture_output=True, text=True, check=False)
    last = done.stderr.strip().splitlines()[-1]
    assert done.returncode == 1
    assert last.startswith("ImportError: tightfit needs its own package 'search'")
    assert str(tmp_path / "search.py") in last
    assert "Rename" in last


def test_verbs_of_the_command_line() -> None:
    """Scripts call these."""
    command = typer.main.get_command(app)
    assert sorted(command.commands) == VERBS  # type: ignore[attr-defined]
    submit = command.commands["submit"]  # type: ignore[attr-defined]
    assert {option for p in submit.params if p.param_type_name == "option" for option in p.opts} == SUBMIT_OPTIONS


def test_fields_of_a_request() -> None:
    """Databases hold these; a new field needs a default."""
    assert list(JobSpec.model_fields) == SPEC_FIELDS
    assert [name for name, field in JobSpec.model_fields.items() if field.is_required()] == ["model", "budget"]


def test_every_option_is_a_field() -> None:
    """What a request can hold and what the command line can say do not drift apart."""
    options = {name.removeprefix("--").replace("-", "_") for name in SUBMIT_OPTIONS}
    names = {
        "group_sizes": "group_size",
        "sparsities": "sparsity",
        "ranks": "rank",
        "kinds": "kind",
        "pins": "pin",
        "plans": "plan",
    }
    names["num_samples"] = "num_sequences"  # which says the two others too
    fields = {names.get(name, name) for name in SPEC_FIELDS} - {"model", "revision"}
    fields -= {"num_search_samples", "num_held_out_samples"}
    others = {"home", "json", "dry_run", "out", "detach", "queue", "like", "config", "preset"}
    assert fields == options - others - {"device_memory"}  # which is another way to say the budget


def test_verbs_of_the_service() -> None:
    """Python callers call these."""
    assert {name for name in dir(Service) if not name.startswith("_")} == SERVICE_VERBS


def test_schema_version_of_the_front() -> None:
    """The document's shape is versioned; tests/space pins its keys."""
    assert import_module("space.results.document").SCHEMA_VERSION == 2
    assert FrontDocument.__dataclass_fields__["schema_version"].default == 2
