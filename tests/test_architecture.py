"""The house: imports go one way, there are no circles, and each foreign library has one door."""

import ast
import shutil
import subprocess
import sys
from collections import Counter
from collections.abc import Iterator
from configparser import ConfigParser
from pathlib import Path

import grimp
import pytest

ROOT = Path(__file__).resolve().parent.parent
PACKAGES = ("space", "storage", "workers", "search", "tightfit")
DOORS = {
    "optuna": ("search/study/",),
    "ray": ("workers/pool/ray_pool.py", "workers/pool/cluster.py"),
    "sqlalchemy": ("storage/sql/", "storage/migrations/"),
    "alembic": ("storage/migrations/",),
    "mlflow": (
        "storage/tracking/mlflow_runs.py",
        "storage/tracking/mlflow_models.py",
        "storage/tracking/mlflow_inputs.py",
    ),
    "torch": ("workers/",),
    "transformers": ("workers/",),
    "safetensors": ("workers/",),
    "huggingface_hub": ("workers/",),
    "datasets": ("workers/",),
    "gguf": ("workers/gguf/",),
    "mlx": ("workers/runtime/loaders/mlx_loader.py", "workers/runtime/speed/mlx_runner.py"),
    "mlx_lm": ("workers/runtime/loaders/mlx_loader.py", "workers/runtime/speed/mlx_runner.py"),
    "onnx": ("workers/onnx_files/",),
    "onnxruntime": ("workers/onnx_files/",),
    "onnxruntime_genai": ("workers/onnx_files/", "workers/runtime/speed/onnx_runner.py"),
    "numba": ("workers/kernels/compiled.py",),
    "pydantic": ("space/spec.py", "space/parsing/checked.py", "tightfit/http/"),
    "fastapi": ("tightfit/http/",),
    "starlette": ("tightfit/http/",),
    "uvicorn": ("tightfit/http/",),
    "httpx2": ("tightfit/client/",),
    "prometheus_client": ("tightfit/http/figures.py",),
    "typer": ("tightfit/cli",),
    "rich": ("tightfit/cli/show.py",),
}
HEAVY = {"torch", "transformers", "ray", "optuna", "mlflow", "sqlalchemy", "numba"}
LOADS_HEAVY = (  # importing these takes seconds; whatever else needs them imports them late
    *("storage.sql", "storage.migrations", "search.controller", "search.job.job_steps", "search.job.search_loop"),
    *("search.study", "workers.worker", "workers.compress", "workers.evaluate", "workers.families", "workers.kernels"),
    *("workers.gguf.llama_cpp", "workers.onnx_files.encoder_graph", "workers.onnx_files.onnx_runtime"),
    *(
        "workers.damping_choice",
        "workers.levels.cache_errors",
        "workers.levels.expert_inputs",
        "workers.levels.output_factors",
    ),
    *("workers.levels.statistics", "workers.made_text", "workers.model_inputs", "workers.samples"),
    *("workers.models.mapped_checkpoint", "workers.models.mxfp4", "workers.models.plausible", "workers.recover"),
    *("workers.pool.cluster", "workers.pool.ray_driver", "workers.pool.ray_pool", "workers.run", "workers.runtime"),
    *("workers.text.chat_text", "workers.text.sampled_text", "tightfit.export.making", "tightfit.exporting"),
    *("tightfit.jobs.front_speeds", "tightfit.jobs.recovering"),
    *("tightfit.converting", "tightfit.hf"),
)
MAX_FILES, MAX_LINES, MAX_FUNCTION_LINES = 15, 300, 60
LINT = "from importlinter.cli import lint_imports; raise SystemExit(lint_imports(no_cache=True, no_logo=True))"


def _lint(folder: Path) -> subprocess.CompletedProcess[str]:
    return subprocess.run([sys.executable, "-c", LINT], cwd=folder, capture_output=True, text=True, check=False)


def _files() -> list[Path]:
    return [path for package in PACKAGES for path in sorted((ROOT / package).rglob("*.py"))]


def _imported(node: ast.AST) -> Iterator[str]:
    """Yield the top-level packages that code imports at any depth; what only type checkers see does not count."""
    if isinstance(node, ast.Import):
        yield from (alias.name.partition(".")[0] for alias in node.names)
    elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
        yield node.module.partition(".")[0]
    for_types = isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING")
    for child in node.orelse if isinstance(node, ast.If) and for_types else ast.iter_child_nodes(node):
        yield from _imported(child)


def _circles(graph: grimp.ImportGraph, modules: set[str]) -> list[str]:
    """Return the modules that can be reached from themselves."""
    left = {m: {n for n in graph.find_modules_directly_imported_by(m) if n in modules} for m in modules}
    while free := [m for m, imported in left.items() if not imported & left.keys()]:
        for module in free:
            del left[module]
    return sorted(left)


def test_imports_go_one_way() -> None:
    """The import-linter contract holds."""
    done = _lint(ROOT)
    assert done.returncode == 0, done.stdout


@pytest.mark.parametrize("floor", [*PACKAGES, "tightfit.cli", "tightfit.client", "tightfit.http"])
def test_the_contracts_name_every_room(floor: str) -> None:
    """No floor, and no room or module directly on one, is left out."""
    options = ConfigParser()
    options.read(ROOT / ".importlinter")
    contracts = [options[name] for name in options.sections() if name.startswith("importlinter:contract:")]
    named = set()
    for contract in contracts:
        layers = contract["layers"].replace("|", " ").split()
        named |= {".".join(filter(None, (contract.get("containers"), layer))) for layer in layers}
    folder = ROOT / floor.replace(".", "/")
    there = {f"{floor}.{path.stem}" for path in folder.iterdir() if path.suffix == ".py" or _is_room(path)}
    assert {name for name in there if name != f"{floor}.__init__"} <= named
    assert {name for name in named if name.rpartition(".")[0] == floor} <= there


def _is_room(path: Path) -> bool:
    return (path / "__init__.py").exists()


def test_rooms_and_files_stay_small() -> None:
    """At most 15 files in a folder, 300 lines in a file, 60 in a function."""
    folders = Counter(path.parent for path in _files() if path.name != "__init__.py")
    assert [(str(folder), count) for folder, count in folders.items() if count > MAX_FILES] == []
    sources = {path: path.read_text(encoding="utf-8") for path in _files()}
    assert [str(path) for path, text in sources.items() if text.count("\n") > MAX_LINES] == []
    functions = (
        (path, node)
        for path, text in sources.items()
        for node in ast.walk(ast.parse(text))
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
    )
    long = [
        f"{path}: {node.name}" for path, node in functions if (node.end_lineno or 0) - node.lineno >= MAX_FUNCTION_LINES
    ]
    assert long == []


def test_no_two_files_of_one_name() -> None:
    """A name says which file is meant."""
    names = Counter(path.name for path in _files() if not path.name.startswith("__"))
    versions = {path.name for path in (ROOT / "storage" / "migrations" / "versions").iterdir()}
    assert [name for name, count in names.items() if count > 1 and name not in versions] == []


@pytest.mark.parametrize(
    ("module", "line"),
    [
        ("space/digest.py", "import storage.records"),
        ("workers/whole_files.py", "import storage.records"),
        ("storage/records.py", "def f() -> None:\n    from workers import tasks"),
        ("search/job/stopping.py", "import tightfit.export.select"),
        ("tightfit/export/select.py", "import search.request.prepare"),
        ("workers/whole_files.py", "import tightfit"),
        ("storage/open_store.py", "from tightfit.config import load_settings"),
        ("search/decide/knapsack.py", "import search.measure.dispatch"),
        ("workers/models/headers.py", "def f() -> None:\n    from workers.families import blocks"),
    ],
)
def test_a_planted_violation_is_caught(tmp_path: Path, module: str, line: str) -> None:
    """The contract is not empty: an import that goes up or across breaks it, wherever it stands."""
    for package in PACKAGES:
        shutil.copytree(ROOT / package, tmp_path / package, ignore=shutil.ignore_patterns("model", "__pycache__"))
    shutil.copy(ROOT / ".importlinter", tmp_path)
    with (tmp_path / module).open("a") as file:
        file.write(f"\n{line}\n")
    done = _lint(tmp_path)
    assert done.returncode == 1
    assert "BROKEN" in done.stdout


def test_no_circles() -> None:
    """No module reaches itself, here or in tests and benchmarks; imports for types and late ones count too."""
    graph = grimp.build_graph(*PACKAGES, "benchmarks", "tests", cache_dir=None)
    assert _circles(graph, {m for m in graph.modules if m != "tightfit"}) == []


def test_circles_are_found() -> None:
    """The search for circles finds one."""
    graph = grimp.ImportGraph()
    for importer, imported in (("a", "b"), ("b", "c"), ("c", "b"), ("d", "a")):
        graph.add_import(importer=importer, imported=imported)
    assert _circles(graph, set(graph.modules)) == ["a", "b", "c", "d"]


@pytest.mark.parametrize("library", DOORS)
def test_one_door_per_library(library: str) -> None:
    """Only the files of its door import a library."""
    found = [str(path.relative_to(ROOT)) for path in _files() if library in _imported(ast.parse(path.read_text()))]
    assert found
    assert [name for name in found if not name.startswith(DOORS[library])] == []


def _loaded(body: list[ast.stmt]) -> Iterator[str]:
    """Yield what is imported as soon as a module is."""
    for node in body:
        if isinstance(node, ast.Import):
            yield from (alias.name for alias in node.names)
        elif isinstance(node, ast.ImportFrom) and node.module:
            yield from (f"{node.module}.{alias.name}" for alias in node.names)
        elif isinstance(node, ast.If) and ast.unparse(node.test).endswith("TYPE_CHECKING"):
            yield from _loaded(node.orelse)
        elif not isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
            yield from _loaded([child for child in ast.iter_child_nodes(node) if isinstance(child, ast.stmt)])


def test_what_is_light_stays_light() -> None:
    """Only named rooms load a heavy library when they are imported: commands that look at jobs are there at once."""
    loads = {}
    for path in _files():
        parts = path.relative_to(ROOT).with_suffix("").parts
        name = ".".join(parts[:-1] if parts[-1] == "__init__" else parts)
        loads[name] = set(_loaded(ast.parse(path.read_text(encoding="utf-8")).body))

    def heavy(name: str, seen: set[str]) -> bool:
        while name and name not in loads:
            if name in HEAVY:
                return True
            name = name.rpartition(".")[0]
        if not name or name in seen:
            return False
        seen.add(name)
        return any(heavy(imported, seen) for imported in loads[name])

    found = {name for name in loads if heavy(name, set())}
    assert {"workers.worker", "storage.sql.sql_store"} <= found
    assert sorted(name for name in found if not name.startswith(LOADS_HEAVY)) == []


def test_late_imports_count() -> None:
    """The door test sees imports in functions and after `else`, and leaves those for types alone."""
    lines = (
        "if TYPE_CHECKING:",
        " import a",
        "else:",
        " import b",
        "def f():",
        " from c.d import e",
        " with x:",
        "  import g.h",
    )
    assert list(_imported(ast.parse("\n".join(lines)))) == ["b", "c", "g"]
