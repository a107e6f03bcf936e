"""A language model that is given images: its tower of images is searched as the rest is, from request to export."""

import json
from dataclasses import replace
from importlib.util import find_spec
from pathlib import Path

import pytest

from search.request.prepare import is_folder, prepare
from space.errors import CalibrationError, ModelError
from space.level import DENSE, parse_level
from space.plan import Plan
from space.spec import make_spec
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.families.sample_sources import source_of
from tests.families.zoo import make_family
from tests.families.zoo_sizes import VOCABULARY
from workers.families.read_inventory import inspect_model, inspect_searched
from workers.model_inputs import IGNORED
from workers.models.model_files import model_digest
from workers.samples.images import CAPTIONS
from workers.samples.sample_table import check_samples, make_samples, read_samples
from workers.tasks import Calibrate, Evaluate, Teach, Workspace
from workers.text.tokens import TextRequest, TokenSet
from workers.worker import Worker

_MENU = {"budget": "60%", "bits": (4, 8), "group_sizes": (32,), "max_trials": 8}
_KIND, _LEVEL = "images-in-text", parse_level("b4-g32")


def _asked(source: Path, length: int = 24) -> TextRequest:
    return TextRequest(str(source), length, 4, 4, 4, 0)


@pytest.fixture(scope="module")
def sees(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a model whose tower feeds the first blocks of the language model, too."""
    return make_family("qwen3_vl", tmp_path_factory.mktemp("sees") / "model")


def _made(model: Path, folder: Path, length: int = 24) -> TokenSet:
    source = source_of(_KIND, folder)
    return make_samples(_KIND, model, _asked(source, length), read_samples(_KIND, model, _asked(source)), folder)


def test_text_behind_an_image_is_scored_and_no_more(sees: Path, tmp_path: Path) -> None:
    """Neither what the template puts before an image, nor marks of it, nor padding; captions are cut to a length."""
    whole, short = (_made(sees, tmp_path, length).load("held_out").tensors for length in (24, 2))
    ids, labels = whole["input_ids"], whole["labels"]
    assert whole["pixel_values"].shape[:2] == (4, 16)  # 4 x 4 patches of each image
    first = (ids[0] == VOCABULARY).nonzero().max()
    assert (labels[:, : first + 1] == IGNORED).all()
    behind = whole["attention_mask"][:, first + 1 :].bool()
    assert labels[:, first + 1 :][behind].equal(ids[:, first + 1 :][behind])
    assert (labels[:, first + 1 :][~behind] == IGNORED).all()
    assert not behind.all()  # captions differ in length
    assert short["input_ids"].shape[1] < ids.shape[1]


@pytest.mark.usefixtures("reload_here")
def test_a_job_searches_the_tower(sees: Path, tmp_path: Path) -> None:
    """The front's plans have levels in the tower, and the export computes what was searched."""
    spec = small_spec(sees, source_of(_KIND, tmp_path), **_MENU)
    service = open_service(tmp_path / "home")
    job_id, document = run_job(service, spec)
    assert document.metric.unit == "nats per caption token"
    exported = service.export(job_id, tmp_path / "out", refit=False)
    assert exported.logit_difference == 0
    assert exported.size_bytes == exported.predicted_bytes
    plan = json.loads((tmp_path / "out" / "compression.json").read_text(encoding="utf-8"))["plan"]
    assert {level for name, level in plan.items() if ".visual." in name} - {str(DENSE)}


@pytest.mark.parametrize("memory", [None, 1], ids=["whole", "streams"])
def test_the_tower_is_measured_alike_however_the_model_is_run(sees: Path, tmp_path: Path, memory: int | None) -> None:
    """A level in the tower costs something, from the start as from a kept block, whole or one block after another."""
    inventory, tokens = inspect_model(sees, images=True), _made(sees, tmp_path)
    workspace = Workspace(str(sees), str(tmp_path), model_digest(sees), inventory)
    dense = Plan.dense(m.name for m in inventory.modules)
    tower = [m.name for m in inventory.modules if ".visual." in m.name]
    last = max(name for name, _ in dense.levels if "layers.2.mlp" in name)
    assert inspect_searched(sees, [*tower, last]) == inventory
    assert inspect_searched(sees, [last]).family == "multimodal-decoder"
    squeezed, more = (
        Plan.of({name: _LEVEL if name in chosen else DENSE for name, _ in dense.levels})
        for chosen in (tower, [*tower, last])
    )
    worker = Worker(replace(workspace, memory_bytes=memory))
    worker.run(Calibrate(tokens))
    worker.run(Teach(tokens, "held_out"))
    worker.provide(Evaluate(tokens, more, "held_out"))
    found = [worker.run(Evaluate(tokens, plan, "held_out")).sequence_kl for plan in (dense, squeezed, more)]
    assert max(found[0]) < 1e-9 < min(found[1])
    anew = [Worker(workspace).run(Evaluate(tokens, plan, "held_out")).sequence_kl for plan in (squeezed, more)]
    assert anew == found[1:]
    assert anew[0] != anew[1]


def test_text_alone_leaves_the_tower_as_it_is(sees: Path, tmp_path: Path) -> None:
    """What a job is given decides what is searched."""
    source = source_of(_KIND, tmp_path)
    text = source_of("tokens", tmp_path)
    assert [is_folder(given) for given in (str(source), str(text), "python-stdlib", None)] == [
        True,
        False,
        False,
        False,
    ]
    families = {
        prepare(make_spec(model=str(sees), calibration=str(given), sparsities=(0.0,), ranks=(0,), **_MENU)).inventory
        for given in (source, text)
    }
    assert {found.family for found in families} == {"image-text-decoder", "multimodal-decoder"}
    assert {any(".visual." in m.name for m in found.modules) for found in families} == {True, False}


def test_what_is_missing_is_said(sees: Path, tmp_path: Path) -> None:
    """Captions, the processor's files, a mark of an image in the prompt: one sentence each."""
    source = source_of(_KIND, tmp_path)
    check_samples(_KIND, sees, _asked(source))
    (source / CAPTIONS).unlink()
    with pytest.raises(CalibrationError, match=rf"has no {CAPTIONS}"):
        check_samples(_KIND, sees, _asked(source))
    source = source_of(_KIND, tmp_path)
    blind = make_family("qwen3_vl", tmp_path / "blind")
    (blind / "chat_template.jinja").write_text("{{ messages[1].content[0].text }}", encoding="utf-8")
    with pytest.raises(ModelError, match=r"its processor (puts no image into its texts|cannot read images in texts)"):
        check_samples(_KIND, blind, _asked(source))
    for path in (*blind.glob("*processor_config.json"), *blind.glob("tokenizer*")):
        path.unlink()
    with pytest.raises(ModelError, match=r"its processor cannot be loaded: .*give --calibration a text"):
        check_samples(_KIND, blind, _asked(source))


@pytest.mark.skipif(find_spec("torchvision") is not None, reason="torchvision is there")
def test_a_processor_that_needs_torchvision_says_so(tmp_path: Path) -> None:
    """Where the library has no other form of it."""
    folder = make_family("mistral3", tmp_path / "model")
    with pytest.raises(ModelError, match=r"is written for torchvision, not installed here: pip install torchvision"):
        check_samples(_KIND, folder, _asked(source_of(_KIND, tmp_path)))
