"""Fixtures that several parts share: tiny models, benches on them, one Ray runtime and one PostgreSQL."""

import os
from collections.abc import Callable, Iterator, Mapping
from contextlib import suppress
from dataclasses import asdict
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import pytest

from space.errors import VerificationError
from space.plan import Plan

if TYPE_CHECKING:
    from tests.end_to_end.jobs import PlainService
    from tests.workers.tiny_models import Bench, TinyKind

with suppress(ImportError):  # the kit of tools/gpu_check.sh has none
    from hypothesis import HealthCheck, settings

    settings.register_profile("untimed", deadline=None, suppress_health_check=[HealthCheck.too_slow])
    settings.load_profile("untimed")  # a busy machine decides no test
pytest.register_assert_rewrite("tests.workers.pool.executor_contract")
ROOT = Path(__file__).resolve().parents[1]
NOT_QUICK = {  # whole jobs, servers, browsers, fresh processes
    *("tests/browser", "tests/chaos", "tests/end_to_end", "tests/export", "tests/fuzz", "tests/workers/pool"),
    "tests/families",
    *("tests/workers/test_gpu.py", "tests/workers/test_devices.py"),
    *("tests/storage/tracking", "tests/cli/test_doctor.py", "tests/cli/test_errors.py", "tests/benchmarks"),
    *(
        *("tests/http", "tests/workers/evaluate/test_sketch.py", "tests/workers/kernels/test_compiled.py"),
        "tests/search/job",
        "tests/search/decide/test_groups.py",
        "tests/workers/recover",
        "tests/cli/test_without_mlflow.py",
        "tests/storage/test_private.py",
    ),
}
SERVERS = {"ray_of_two", "postgres_server"}


def pytest_addoption(parser: pytest.Parser) -> None:
    """Add what `make quick` and `make slow` run with."""
    parser.addoption("--quick", action="store_true", help="without Ray, PostgreSQL, browsers and whole jobs")
    parser.addoption("--slow", action="store_true", help="those marked `slow`, and no others")


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leave out what was not asked for: slow tests by default, all but the slow or all but the quick ones."""
    is_slow, is_quick = config.getoption("--slow"), config.getoption("--quick")
    wanted = [i for i in items if _is_slow(i) == is_slow and (not is_quick or _is_quick(i))]
    config.hook.pytest_deselected(items=[item for item in items if item not in set(wanted)])
    items[:] = wanted


def _is_slow(item: pytest.Item) -> bool:
    return item.get_closest_marker("slow") is not None


def _is_quick(item: pytest.Item) -> bool:
    place = item.path.relative_to(ROOT)
    places = {str(place), *map(str, place.parents)}
    fixtures = set(getattr(item, "fixturenames", ()))
    return not places & NOT_QUICK and not fixtures & SERVERS and "postgres" not in item.nodeid


@pytest.fixture(scope="session")
def text_file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a text file that is long enough."""
    from tests.workers.tiny_models import write_text_file

    return write_text_file(tmp_path_factory.mktemp("text") / "text.txt")


@pytest.fixture(scope="session")
def tiny(tmp_path_factory: pytest.TempPathFactory) -> "Callable[[TinyKind], Path]":
    """Give the folder of a tiny model of a kind; never change what is in it."""
    from tests.workers.tiny_models import make_tiny

    return cache(lambda kind: make_tiny(tmp_path_factory.mktemp(f"model-{kind}"), kind))


@pytest.fixture(scope="session")
def bench(
    tmp_path_factory: pytest.TempPathFactory, tiny: "Callable[[TinyKind], Path]", text_file: Path
) -> "Callable[[TinyKind], Bench]":
    """Give the bench of a kind of model, made once."""
    from tests.workers.tiny_models import make_bench

    return cache(lambda kind: make_bench(tiny(kind), tmp_path_factory.mktemp(f"cache-{kind}"), text_file))


@pytest.fixture(scope="session")
def ray_of_two() -> Iterator[None]:
    """Run one Ray runtime with two CPUs for all tests that need one."""
    import ray

    from workers.pool.cluster import start_ray

    assert start_ray(2)
    yield
    ray.shutdown()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Give the URL of a running PostgreSQL: the named one, or a private cluster on a Unix socket."""
    from tests.postgres import find_programs, private_postgres

    if "TIGHTFIT_TEST_DATABASE_URL" in os.environ:
        yield os.environ["TIGHTFIT_TEST_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
        return
    programs = find_programs()
    if programs is None:
        pytest.skip("no PostgreSQL: neither TIGHTFIT_TEST_DATABASE_URL nor /usr/lib/postgresql/*/bin/initdb")
    with private_postgres(programs) as server:
        yield server.url


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Give a URL whose tables live in a schema of this test alone."""
    from tests.postgres import own_schema

    with own_schema(postgres_server) as url:
        yield url


@pytest.fixture(params=["sqlite", "postgres"])
def database_url(request: pytest.FixtureRequest, tmp_path: Path) -> str:
    """Give the URL of an empty database, SQLite and then PostgreSQL."""
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path}/store.db"
    found: str = request.getfixturevalue("postgres_url")
    return found


@pytest.fixture
def service(tmp_path: Path) -> "Iterator[PlainService]":
    """Give a service with an empty home."""
    from tests.end_to_end.jobs import open_service

    service = open_service(tmp_path / "home")
    yield service
    service.store.close()


@pytest.fixture
def reload_here(monkeypatch: pytest.MonkeyPatch) -> None:
    """Reload exports in this process, which saves seconds; other tests use fresh ones."""
    from tightfit.export import verify
    from workers.families.read_inventory import inspect_searched
    from workers.runtime.loaders.exported_loaders import LOADERS
    from workers.runtime.reload import reload
    from workers.tasks import Workspace
    from workers.text.tokens import TokenSet

    def in_process(request: Mapping[str, Any], look: Callable[[], None]) -> dict[str, Any]:
        look()
        model = request["model_folder"]
        cache, content = request["cache_folder"], request["model_digest"]
        inventory = inspect_searched(Path(model), [name for name, _ in Plan.from_json(request["plan"]).levels])
        workspace = Workspace(model, cache, content, inventory, device=request["device"])
        plan, tokens = Plan.from_json(request["plan"]), TokenSet.from_json(request["tokens"])
        try:
            return asdict(reload(Path(request["folder"]), plan, workspace, tokens, LOADERS[request["target"]]))
        except Exception as error:
            raise VerificationError(f"cannot be loaded again: {error}") from error

    monkeypatch.setattr(verify, "_reload", in_process)
