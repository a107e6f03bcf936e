"""Whatever is made of a finished job is of the model that it searched, or refused by name."""

import json
import shutil
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from huggingface_hub import constants
from safetensors.torch import load_file, save_file

from space.errors import ModelError, UsageError
from tests.end_to_end.jobs import PlainService, Quiet, open_service, run_job, small_spec
from tests.workers.tiny_models import TinyKind
from workers.models.model_files import model_digest, resolve_model

Tiny = Callable[[TinyKind], Path]
FIRST, SECOND = "a" * 40, "b" * 40


def _negate(folder: Path) -> None:
    tensors = {name: tensor.clone() for name, tensor in load_file(folder / "model.safetensors").items()}
    changed = {name: -tensor if tensor.ndim > 1 else tensor for name, tensor in tensors.items()}
    save_file(changed, folder / "model.safetensors", {"format": "pt"})


def _turn_one_bit(folder: Path) -> None:
    data = bytearray((folder / "model.safetensors").read_bytes())
    data[-1] ^= 1
    (folder / "model.safetensors").write_bytes(bytes(data))


def _change_config(folder: Path) -> None:
    config = json.loads((folder / "config.json").read_text())
    (folder / "config.json").write_text(json.dumps(config | {"rms_norm_eps": 0.1}))


def _store_as_float32(folder: Path) -> None:
    tensors = {name: tensor.float() for name, tensor in load_file(folder / "model.safetensors").items()}
    save_file(tensors, folder / "model.safetensors", {"format": "pt"})


@pytest.fixture(scope="module")
def finished(
    tiny: Tiny, text_file: Path, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[tuple[PlainService, str, Path]]:
    """Give a service with one finished job, and the folder of its model, which tests may change and must restore."""
    root = tmp_path_factory.mktemp("finished")
    model = Path(shutil.copytree(tiny("tied"), root / "model"))
    service = open_service(root / "home")
    yield service, run_job(service, small_spec(model, text_file, max_trials=8))[0], model
    service.store.close()


@pytest.fixture
def job(finished: tuple[PlainService, str, Path], tmp_path: Path) -> Iterator[tuple[PlainService, str, Path]]:
    """Give the finished job; its model's folder is as it was afterwards."""
    model = finished[2]
    kept = shutil.copytree(model, tmp_path / "kept")
    yield finished
    shutil.rmtree(model, ignore_errors=True)
    shutil.copytree(kept, model)


def _without_inventory(service: PlainService, job_id: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Make a job look like one of a tightfit that kept no inventory."""
    get_job = service.store.get_job

    def older(name: str) -> Any:
        found = get_job(name)
        return replace(found, facts=replace(found.facts, inventory=None))

    monkeypatch.setattr(service.store, "get_job", older)


@pytest.mark.parametrize("change", [_negate, _turn_one_bit, _change_config, _store_as_float32])
def test_export_and_resume_refuse_another_model(
    job: tuple[PlainService, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch, change: Callable[[Path], None]
) -> None:
    """One that was saved at the same path since; nothing is written, and what needs no model goes on."""
    service, job_id, model = job
    before = service.explain(job_id), service.report(job_id)
    change(model)
    told = rf"{model}: not the model that job {job_id} searched: .* submit a job on what is there now"
    with pytest.raises(ModelError, match=told):
        service.export(job_id, tmp_path / "out")
    assert not (tmp_path / "out").exists()
    assert (service.explain(job_id), service.report(job_id)) == before
    service.store.resume_job(job_id)  # as if it had not ended: `resume` of a job that is done runs nothing
    with pytest.raises(UsageError, match=rf"{job_id} cannot go on: since it began, the model {model} changed"):
        service.run(job_id, Quiet(), inline=True)
    _without_inventory(service, job_id, monkeypatch)
    with pytest.raises(ModelError, match=told):
        service.report(job_id)


@pytest.mark.usefixtures("reload_here")
def test_a_touched_model_is_the_same(job: tuple[PlainService, str, Path], tmp_path: Path) -> None:
    """Other dates, a card or a licence beside the weights change nothing."""
    service, job_id, model = job
    data = (model / "model.safetensors").read_bytes()
    (model / "model.safetensors").unlink()
    (model / "model.safetensors").write_bytes(data)
    (model / "README.md").write_text("new")
    assert service.export(job_id, tmp_path / "out", refit=False).verified


def test_what_was_found_outlives_the_model(
    job: tuple[PlainService, str, Path], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Front, explanation and report are there without its folder; an export says what it misses."""
    service, job_id, model = job
    before = service.front(job_id), service.explain(job_id), service.explanations(job_id), service.report(job_id)
    _without_inventory(service, job_id, monkeypatch)
    assert service.report(job_id) == before[-1]  # of the folder, which is still the same
    monkeypatch.undo()
    shutil.rmtree(model)
    found = service.front(job_id), service.explain(job_id), service.explanations(job_id), service.report(job_id)
    assert found == before
    with pytest.raises(ModelError, match=f"{model}: no such folder"):
        service.export(job_id, tmp_path / "out")


class Hub:
    """The hub's cache on disk, in which models are published; nobody is asked over the network."""

    def __init__(self, folder: Path) -> None:
        self.repository = folder / "models--org--name"

    def publish(self, commit: str, model: Path, branch: str = "main") -> Path:
        """Let a branch be a commit with a model's files; return its folder."""
        snapshot, blobs, refs = (self.repository / n for n in (f"snapshots/{commit}", "blobs", "refs"))
        for folder in (snapshot, blobs, refs):
            folder.mkdir(parents=True, exist_ok=True)
        for path in model.iterdir():
            shutil.copyfile(path, blobs / f"{commit}-{path.name}")
            (snapshot / path.name).symlink_to(f"../../blobs/{commit}-{path.name}")
        (refs / branch).write_text(commit)
        return snapshot


@pytest.fixture
def hub(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Hub:
    """Give a cache of the hub, offline."""
    monkeypatch.setattr(constants, "HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", True)
    return Hub(tmp_path / "hub")


@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("name", ["org/name", "org/name@main"])
def test_hub_model_is_pinned(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, hub: Hub, name: str
) -> None:
    """A job is about the commit that the branch was when it was made, before and after it ran."""
    first = hub.publish(FIRST, tiny("tied"))
    (first / "README.md").write_text("---\nlicense: mit\n---\n")
    job = service.submit(small_spec(Path(name), text_file, max_trials=8))
    assert (job.spec.model, job.spec.revision) == ("org/name", FIRST)
    hub.publish(SECOND, tiny("olmo"))
    assert resolve_model(name).name == SECOND
    service.run(job.job_id, Quiet(), inline=True)
    assert service.store.get_job(job.job_id).facts.model_digest == model_digest(first)
    exported = service.export(job.job_id, tmp_path / "out", refit=False)
    assert (exported.verified, exported.logit_difference) == (True, 0.0)
    card = (tmp_path / "out" / "README.md").read_text()
    assert "base_model: org/name\n" in card
    assert "license: mit\n" in card
    assert (tmp_path / "out" / "tokenizer.json").read_bytes() == (first / "tokenizer.json").read_bytes()
    shutil.rmtree(hub.repository)
    assert service.explain(job.job_id).modules
    with pytest.raises(ModelError, match="org/name: not a local folder, and the hub could not give it"):
        service.export(job.job_id, tmp_path / "again")


def test_unpinned_job_of_an_older_tightfit(
    service: PlainService, tiny: Tiny, text_file: Path, tmp_path: Path, hub: Hub, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its branch moved: an export is refused by name, and so is a report that needs the modules; no network then."""
    hub.publish(FIRST, tiny("tied"))
    monkeypatch.setattr("tightfit.jobs.new_job.lasting", lambda spec, _: spec)
    job_id, _ = run_job(service, small_spec(Path("org/name"), text_file, max_trials=8))
    hub.publish(SECOND, tiny("olmo"))
    told = f"{SECOND}: not the model that job {job_id} searched"
    with pytest.raises(ModelError, match=told):
        service.export(job_id, tmp_path / "out")
    _without_inventory(service, job_id, monkeypatch)
    monkeypatch.setattr(constants, "HF_HUB_OFFLINE", False)
    monkeypatch.setattr("socket.socket.connect", lambda *_: pytest.fail("went to the network"))
    with pytest.raises(ModelError, match=told):
        service.report(job_id)
    shutil.rmtree(hub.repository)
    with pytest.raises(ModelError, match="org/name: not a local folder, and no copy of it is in the hub's cache"):
        service.explain(job_id)
