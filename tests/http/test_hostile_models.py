"""Models that mean harm, over HTTP, judged in a process apart as they are in earnest."""

import json
import os
import struct
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from shutil import copytree

import pytest
from starlette.testclient import TestClient

from space.errors import ModelError
from tests.http.conftest import ADDRESS, World
from tests.http.test_refusals_over_http import refused
from tightfit.http.apart.request_judge import Apart
from tightfit.http.api import ApiOptions, create_app
from tightfit.http.callers import OpenGate

Spoil = Callable[[Path], None]


def pickled(folder: Path) -> None:
    """Leave weights in a pickle alone."""
    (folder / "model.safetensors").unlink()
    (folder / "pytorch_model.bin").write_bytes(b"cos\nsystem\n(S'touch owned'\ntR.")


def remote_code(folder: Path) -> None:
    """Ask to run code of the folder."""
    config = json.loads((folder / "config.json").read_text())
    config |= {"auto_map": {"AutoModelForCausalLM": "evil.Evil"}, "model_type": "evil"}
    (folder / "config.json").write_text(json.dumps(config))
    (folder / "evil.py").write_text("raise SystemExit('owned')")


def huge_header(folder: Path) -> None:
    """Say that the header has 1 TB."""
    (folder / "model.safetensors").write_bytes(struct.pack("<Q", 2**40) + b"{}")


def bomb(folder: Path) -> None:
    """Nest a config deeply."""
    (folder / "config.json").write_text("[" * 100_000)


@pytest.fixture(scope="module")
def apart(world: World) -> Iterator[Apart]:
    """Give a judge with a process of its own."""
    found = Apart(world.service.settings, limit_seconds=120, idle_seconds=120)
    yield found
    found.close()


@pytest.mark.parametrize(
    ("spoil", "words"),
    [
        (pickled, "safetensors"),
        (remote_code, "asks to run code from the folder, which tightfit never does"),
        (huge_header, "truncated or not a safetensors file"),
        (bomb, "nested too deeply"),
    ],
)
def test_models_that_mean_harm(world: World, apart: Apart, tmp_path: Path, spoil: Spoil, words: str) -> None:
    """Refused with a reason; nothing ran, nothing was fetched, nothing is left."""
    model = Path(copytree(world.model, tmp_path / "<b>model</b>"))
    spoil(model)
    before = {found.job_id for found in world.service.store.list_overviews()}
    app = create_app(world.service, OpenGate("ada"), ApiOptions(model_folders=(tmp_path, world.text.parent)), apart)
    client = TestClient(app, base_url=ADDRESS)  # and not its end, which would be the judge's
    for path in ("/v1/inspect", "/v1/jobs"):
        found = client.post(path, json=world.request() | {"model": str(model)})
        refused(found, 422, words)
        assert found.headers["x-content-type-options"] == "nosniff"
    assert not list(tmp_path.rglob("owned"))
    assert {found.job_id for found in world.service.store.list_overviews()} == before


def test_a_model_that_takes_too_long_or_ends_its_process(world: World) -> None:
    """Is refused; the next one is judged as ever."""
    spec = world.service.store.get_job(world.done).spec
    hasty = Apart(world.service.settings, limit_seconds=0.01)
    with pytest.raises(ModelError, match="took longer than 0 s and was ended"):
        hasty.dry_run(spec)
    hasty.close()
    judge = Apart(world.service.settings, idle_seconds=60)
    try:
        assert judge.dry_run(spec) == world.service.dry_run(spec)
        process = judge._process._process
        assert process is not None
        assert process.pid is not None
        os.kill(process.pid, 9)
        process.join(10)
        assert judge.dry_run(spec).smallest_bytes > 0
    finally:
        judge.close()
    idle = Apart(world.service.settings, idle_seconds=0.0)
    idle._process.connected()
    process = idle._process._process
    assert process is not None
    deadline = time.monotonic() + 60
    while process.is_alive():
        assert time.monotonic() < deadline
        time.sleep(0.05)
    idle.close()
