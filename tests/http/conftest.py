"""A service with one finished job, and an application around it that is asked without sockets."""

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from starlette.testclient import TestClient

from tests.end_to_end.jobs import PlainService, open_service, run_job, small_spec
from tests.http.here import Here
from tests.workers.tiny_models import TinyKind
from tightfit.http.api import ApiOptions, create_app
from tightfit.http.callers import Caller, Gate, OpenGate

ADDRESS = "http://127.0.0.1:8642"


@dataclass(frozen=True)
class World:
    """A home with a finished job of a tiny model, and how to ask its service."""

    service: PlainService
    model: Path
    text: Path
    done: str

    def request(self, **values: Any) -> dict[str, Any]:
        """Return a small request as JSON."""
        return small_spec(self.model, self.text, **values).model_dump(mode="json")

    def client(self, gate: Gate | None = None, options: ApiOptions | None = None) -> TestClient:
        """Return who asks the application."""
        options = options or ApiOptions(model_folders=(self.model.parent, self.text.parent), share_seconds=0.0)
        app = create_app(self.service, gate or OpenGate("ada"), options, Here(self.service))
        return TestClient(app, base_url=ADDRESS, raise_server_exceptions=False)


@pytest.fixture(scope="session")
def world(
    tmp_path_factory: pytest.TempPathFactory, tiny: Callable[[TinyKind], Path], text_file: Path
) -> Iterator[World]:
    """Give a home with one job that is done."""
    service = open_service(tmp_path_factory.mktemp("http") / "home")
    job, _ = run_job(service, small_spec(tiny("tied"), text_file, max_trials=20))
    yield World(service, tiny("tied"), text_file, job)
    service.store.close()


@pytest.fixture
def client(world: World) -> Iterator[TestClient]:
    """Give who asks an application on loopback."""
    with world.client() as client:
        yield client


class Named:
    """Knows callers by tokens that are given."""

    def __init__(self, **callers: Caller) -> None:
        self.callers = callers

    def caller(self, token: str | None) -> Caller:
        """Return who has a token."""
        return self.callers[token or ""]
