"""The local MLflow server: started once, found again, stopped by its id."""

import json
import os
import socket
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack, closing
from pathlib import Path

import pytest

from space.errors import StoreError, UsageError
from storage.tracking.mlflow_runs import sync
from storage.tracking.mlflow_server import (
    RunningServer,
    _claim,
    find_server,
    start_server,
    stop_server,
    tracking_database,
    wait_until_ready,
)
from storage.tracking.mlflow_tracker import MlflowTracker
from tests.storage.sample_job import sample_job

mlflow = pytest.importorskip("mlflow")


@pytest.fixture(scope="module")
def home(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """Yield a folder whose server is stopped at the end."""
    folder = tmp_path_factory.mktemp("home")
    yield folder
    stop_server(folder)


@pytest.fixture(scope="module")
def server(home: Path) -> RunningServer:
    """Return a server, started without waiting and then waited for."""
    started = start_server(home, wait=False)
    assert wait_until_ready(home) == started
    return started


def test_second_start_finds_the_first(home: Path, server: RunningServer) -> None:
    """Starting again returns the running server."""
    assert start_server(home) == server == find_server(home)
    assert server.url.startswith("http://127.0.0.1:")


def test_runs_written_to_the_file_are_served(home: Path, server: RunningServer) -> None:
    """A job written straight to SQLite is read through the server, artifacts included, and the other way round."""
    sample = sample_job()
    for uri in (tracking_database(home), server.url):
        link = sync(uri, sample.job, sample.trials, sample.document, "<p>report</p>", link_base=server.url)
        assert link.startswith(server.url)
    client = mlflow.MlflowClient(server.url)
    experiment = client.get_experiment_by_name("tightfit/acme/tiny-llama-8m")
    (parent,) = client.search_runs([experiment.experiment_id], "tags.`tightfit.kind` = 'job'")
    address = f"{server.url}/get-artifact?path=report.html&run_uuid={parent.info.run_id}"
    with urllib.request.urlopen(address, timeout=10) as response:  # noqa: S310 (our own server)
        assert response.read() == b"<p>report</p>"


def test_job_born_through_the_server_is_read_from_the_file(home: Path, server: RunningServer) -> None:
    """A job written over http can be synced again straight to the file."""
    sample = sample_job("brisk-heron-2", model="acme/other")
    for uri in (server.url, tracking_database(home)):
        sync(uri, sample.job, sample.trials, sample.document, "<p>report</p>")
    client = mlflow.MlflowClient(tracking_database(home))
    experiment = client.get_experiment_by_name("tightfit/acme/other")
    assert len(client.search_runs([experiment.experiment_id], "tags.`tightfit.kind` = 'job'")) == 1


def test_server_and_writer_create_the_database_together(tmp_path: Path) -> None:
    """A job that writes to the file while the first server starts harms neither."""
    sample = sample_job()
    try:
        started = start_server(tmp_path, wait=False)
        tracker = MlflowTracker(tracking_database(tmp_path))
        late = MlflowTracker(started.url)
        tracker.publish(sample.job, sample.trials, sample.document, "<p>report</p>")
        late.progress(sample.job, 1, {"hypervolume": 0.5})
        assert tracker.close(120)
        assert wait_until_ready(tmp_path) == started
        assert late.close(60)
        client = mlflow.MlflowClient(tracking_database(tmp_path))
        assert [e.name for e in client.search_experiments()] == ["tightfit/acme/tiny-llama-8m", "Default"]
    finally:
        stop_server(tmp_path)


def test_taken_port_is_refused(tmp_path: Path) -> None:
    """Asking for a port that somebody uses is an error, not a server that dies."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        taken.listen()
        with pytest.raises(UsageError, match="is taken"):
            start_server(tmp_path, taken.getsockname()[1])


def test_a_port_is_claimed_before_anybody_listens() -> None:
    """Of any number that look at once each has another port, and one that is asked for is had by one alone."""
    with ThreadPoolExecutor(8) as threads, ExitStack() as claims:
        found = [claims.enter_context(closing(claim)) for claim in threads.map(_claim, [None] * 8)]
        ports = [claim.getsockname()[1] for claim in found]
        assert len(set(ports)) == len(ports)
        with pytest.raises(UsageError, match="is taken"):
            _claim(ports[0])
    _claim(ports[0]).close()


@pytest.mark.slow
def test_two_that_start_at_once_have_servers_of_their_own(tmp_path: Path) -> None:
    """Each home's server answers with that home's experiments."""
    homes = [tmp_path / "a", tmp_path / "b"]
    try:
        with ThreadPoolExecutor(2) as threads:
            first, second = threads.map(lambda home: start_server(home, wait=False), homes)
        assert first.url != second.url
        for home in homes:
            server = wait_until_ready(home, 300)
            client = mlflow.MlflowClient(server.url)
            client.create_experiment(home.name)
            assert {e.name for e in client.search_experiments()} == {"Default", home.name}
    finally:
        for home in homes:
            stop_server(home)


def test_record_of_a_stranger_is_not_ours(tmp_path: Path) -> None:
    """A record whose process is another program (a reused id) is neither found nor stopped."""
    (tmp_path / "mlflow").mkdir()
    record = {"url": "http://127.0.0.1:9", "pid": os.getpgid(0)}
    (tmp_path / "mlflow" / "server.json").write_text(json.dumps(record))
    assert find_server(tmp_path) is None
    assert not stop_server(tmp_path)


def test_waiting_for_nothing_is_an_error(tmp_path: Path) -> None:
    """Without a server there is nothing to wait for."""
    with pytest.raises(StoreError, match="is not running"):
        wait_until_ready(tmp_path, 1)


def test_stopped_server_is_gone(home: Path, server: RunningServer) -> None:
    """Stopping ends the process group; stopping again is no error."""
    assert stop_server(home)
    with pytest.raises(ProcessLookupError):
        os.killpg(server.pid, 0)
    assert find_server(home) is None
    assert not stop_server(home)
