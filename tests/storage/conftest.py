"""Fixtures of the storage tests: a real PostgreSQL, private to this run."""

import os
import pwd
import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from uuid import uuid4

import pytest
from sqlalchemy import create_engine, make_url, text

from space.spec import make_spec
from storage.records import Job
from storage.store import Store

pytest.register_assert_rewrite(*(f"tests.storage.contract{part}" for part in ("", "_jobs", "_trials")))


@pytest.fixture
def job(store: Store) -> Job:
    """Give job "one" of the test's own store, QUEUED."""
    return store.create_job("one", make_spec(model="org/model", budget="60%"))


def _run(*command: str) -> None:
    """Run a server command as a user that is not root, since PostgreSQL refuses root."""
    if os.geteuid() == 0:
        command = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command)
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd="/", timeout=120, check=False)
        output.seek(0)
        assert done.returncode == 0, output.read()


@pytest.fixture(scope="session")
def postgres_server() -> Iterator[str]:
    """Give the URL of a running PostgreSQL: the named one, or a private cluster on a Unix socket."""
    if "TIGHTFIT_TEST_DATABASE_URL" in os.environ:
        yield os.environ["TIGHTFIT_TEST_DATABASE_URL"].replace("postgresql://", "postgresql+psycopg://")
        return
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    if not found:
        pytest.skip("no PostgreSQL: neither TIGHTFIT_TEST_DATABASE_URL nor /usr/lib/postgresql/*/bin/initdb")
    programs = found[-1].parent
    folder = Path(tempfile.mkdtemp(prefix="tightfit-pg-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    data, pg_ctl = str(folder / "data"), str(programs / "pg_ctl")
    options = f"-c listen_addresses='' -c unix_socket_directories='{folder}' -c fsync=off"
    try:
        _run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "tightfit", "-E", "UTF8", "--no-sync")
        _run(pg_ctl, "start", "-w", "-t", "60", "-D", data, "-l", str(folder / "log"), "-o", options)
        try:
            yield f"postgresql+psycopg://tightfit@/postgres?host={folder}"
        finally:
            _run(pg_ctl, "stop", "-w", "-t", "60", "-D", data, "-m", "immediate")
    finally:
        shutil.rmtree(folder)


@pytest.fixture
def postgres_url(postgres_server: str) -> Iterator[str]:
    """Give a URL whose tables live in a schema of this test alone."""
    schema = f"tightfit_{uuid4().hex}"
    engine = create_engine(postgres_server)
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    url = make_url(postgres_server).update_query_dict({"options": f"-csearch_path={schema}"})
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()
