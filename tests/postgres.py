"""A real PostgreSQL, private to a test run: on a Unix socket in a folder of its own, started, killed and stopped."""

import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from uuid import uuid4

from sqlalchemy import create_engine, make_url, text

_START_SECONDS = 60.0


@dataclass(frozen=True)
class Postgres:
    """A cluster: where its programs and its folder are."""

    programs: Path
    folder: Path

    @property
    def url(self) -> str:
        """Return the URL of its first database."""
        return f"postgresql+psycopg://tightfit@/postgres?host={self.folder}"

    def start(self) -> None:
        """Start the server, also after it was killed; return once it answers."""
        options = f"-c listen_addresses='' -c unix_socket_directories='{self.folder}' -c fsync=off"
        deadline = time.monotonic() + _START_SECONDS
        while True:
            try:
                self._pg_ctl("start", "-l", str(self.folder / "log"), "-o", options)
            except AssertionError:  # processes of a killed one still hold its shared memory
                if time.monotonic() > deadline:
                    raise
                time.sleep(0.5)
            else:
                return

    def stop(self) -> None:
        """Stop the server, if it runs."""
        if not (self.folder / "data" / "postmaster.pid").exists():
            return
        self._pg_ctl("stop", "-m", "immediate")

    def kill(self) -> None:
        """Kill the postmaster, as nobody should; its other processes notice and end."""
        process_id = int((self.folder / "data" / "postmaster.pid").read_text().split()[0])
        os.kill(process_id, signal.SIGKILL)

    def _pg_ctl(self, verb: str, *options: str) -> None:
        _run(str(self.programs / "pg_ctl"), verb, "-w", "-t", "60", "-D", str(self.folder / "data"), *options)


def find_programs() -> Path | None:
    """Return the folder of the newest PostgreSQL's programs."""
    found = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda path: int(path.parts[4]))
    return found[-1].parent if found else None


@contextmanager
def private_postgres(programs: Path) -> Iterator[Postgres]:
    """Give a running cluster that is gone afterwards."""
    folder = Path(tempfile.mkdtemp(prefix="tightfit-pg-"))
    if os.geteuid() == 0:
        user = pwd.getpwnam("postgres")
        os.chown(folder, user.pw_uid, user.pw_gid)
    server = Postgres(programs, folder)
    try:
        data = str(folder / "data")
        _run(str(programs / "initdb"), "-D", data, "-A", "trust", "-U", "tightfit", "-E", "UTF8", "--no-sync")
        server.start()
        try:
            yield server
        finally:
            server.stop()
    finally:
        shutil.rmtree(folder)


@contextmanager
def own_schema(server_url: str) -> Iterator[str]:
    """Give a URL whose tables live in a schema of its own."""
    schema = f"tightfit_{uuid4().hex}"
    engine = create_engine(server_url, pool_pre_ping=True)  # it may be killed meanwhile
    with engine.begin() as connection:
        connection.execute(text(f"CREATE SCHEMA {schema}"))
    url = make_url(server_url).update_query_dict({"options": f"-csearch_path={schema}"})
    try:
        yield url.render_as_string(hide_password=False)
    finally:
        with engine.begin() as connection:
            connection.execute(text(f"DROP SCHEMA {schema} CASCADE"))
        engine.dispose()


def _run(*command: str) -> None:
    """Run a server command as a user that is not root, since PostgreSQL refuses root."""
    if os.geteuid() == 0:
        command = ("setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups", *command)
    with tempfile.TemporaryFile("w+") as output:
        done = subprocess.run(command, stdout=output, stderr=output, cwd="/", timeout=120, check=False)
        output.seek(0)
        assert done.returncode == 0, output.read()
