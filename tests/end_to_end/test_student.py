"""A student: blocks cut out of a model, what is left trained, written, and searched as any model."""

import json
from dataclasses import replace
from pathlib import Path

import pytest
import torch
from torch import nn

from space.errors import OutputError, SpecError
from tests.end_to_end.jobs import open_service, run_job, small_spec
from tests.families.zoo import make_family
from tests.workers.tiny_models import make_deep, write_text_file
from tightfit.students.make_student import RECORD, StudentWish, make_student
from workers.families.family_table import FAMILIES
from workers.families.load_modules import load_model
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest
from workers.recover.student import train_student as module
from workers.recover.student.cut_blocks import cut, least_needed, skipping
from workers.tasks import PrepareText, Workspace
from workers.text.tokens import TextRequest
from workers.worker import Worker

_CAUSAL = FAMILIES["causal-decoder"]


@pytest.fixture(scope="module")
def text(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Give a file of text."""
    return write_text_file(tmp_path_factory.mktemp("text") / "text.txt", 60_000)


@torch.no_grad()
def _logits(model: nn.Module) -> torch.Tensor:
    found: torch.Tensor = model(input_ids=torch.arange(5, 29)[None], use_cache=False).logits
    return found


@torch.no_grad()
def test_blocks_that_do_nothing_go_first(tmp_path: Path) -> None:
    """What is skipped while choosing is what is cut then; the others keep their order."""
    model = load_model(make_deep(tmp_path, 5))
    whole = _logits(model)
    for block in (model.model.layers[1], model.model.layers[3]):
        for last in (block.self_attn.o_proj, block.mlp.down_proj):
            last.weight.zero_()
    before = _logits(model)
    assert not torch.allclose(before, whole)
    kept = least_needed(model, _CAUSAL, 3, lambda: float((_logits(model) - before).abs().max()))
    assert kept == (0, 2, 4)
    with skipping([model.model.layers[1], model.model.layers[3]]):
        assert torch.allclose(_logits(model), before, atol=1e-5)
    cut(model, _CAUSAL, kept)
    assert torch.allclose(_logits(model), before, atol=1e-5)
    assert [layer.self_attn.layer_idx for layer in model.model.layers] == [0, 1, 2]
    assert model.generate(torch.arange(5, 9)[None], max_new_tokens=2, do_sample=False).shape == (1, 6)


def test_kinds_of_blocks_are_cut_with_them(tmp_path: Path) -> None:
    """A config's list of layer types is that of the blocks that are left."""
    model = load_model(make_family("olmo_hybrid", tmp_path / "model"))
    types = list(model.config.layer_types)
    cut(model, _CAUSAL, (0, 3))
    assert model.config.layer_types == [types[0], types[3]]
    assert model.config.num_hidden_layers == 2
    model.save_pretrained(tmp_path / "cut")
    assert torch.equal(_logits(load_model(tmp_path / "cut")), _logits(model))


def test_a_student_is_made_and_searched(text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It learns; its record and its files tell the same; a job takes it as any model; its folder is not taken twice."""
    monkeypatch.setattr(module, "COURSE", replace(module.COURSE, steps=24, judge_every=8, warmup=2))
    model = make_deep(tmp_path / "model", 4)
    wish = StudentWish(str(model), 2, tmp_path / "out", 5.0, str(text), 32, 64)
    found = make_student(wish, tmp_path / "cache")
    assert len(found.blocks) == 2
    assert found.size_bytes == inspect_model(tmp_path / "out").dense_bytes < found.dense_bytes
    assert found.kl_divergence < found.untrained_kl_divergence
    record = json.loads((tmp_path / "out" / RECORD).read_text(encoding="utf-8"))
    assert record["kl_divergence"] == found.kl_divergence
    assert record["teacher_digest"] == model_digest(model)
    assert "2 of its blocks" in (tmp_path / "out" / "README.md").read_text(encoding="utf-8")
    with pytest.raises(OutputError, match="--out"):
        make_student(wish, tmp_path / "cache")
    _, document = run_job(open_service(tmp_path / "home"), small_spec(tmp_path / "out", text, max_trials=8))
    assert document.dense.size_bytes == found.size_bytes


def test_killed_it_goes_on_and_ends_in_the_same_weights(
    text: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The order of the text follows from the seed; what is on disk is where it was."""
    monkeypatch.setattr(module, "COURSE", replace(module.COURSE, steps=12, judge_every=4, checkpoint_seconds=0.0))
    model = make_deep(tmp_path / "model", 3)
    inventory = inspect_model(model)
    ends = []
    for stop_after in (None, 5):
        cache = tmp_path / f"cache-{stop_after}"
        workspace = Workspace(str(model), str(cache), model_digest(model), inventory)
        tokens = Worker(workspace).run(PrepareText(TextRequest(str(text), 32, 32, 8, 8, 0)))
        steps = list[int]()

        def look(limit: int | None = stop_after, made: list[int] = steps) -> None:
            made.append(1)
            if len(made) == limit:
                raise KeyboardInterrupt

        if stop_after is not None:
            with pytest.raises(KeyboardInterrupt):
                module.train_student(workspace, tokens, 1, look=look)
        ends.append(module.train_student(workspace, tokens, 1, look=look))
        assert len(steps) == 12
    first, second = (dict(end.model.named_parameters()) for end in ends)
    assert all(torch.equal(value, second[name]) for name, value in first.items())


@pytest.mark.parametrize(
    ("family", "blocks", "told"),
    [
        ("llama", 3, r"--blocks 3: .* has 3 blocks; keep 1 to 2 of them"),
        ("llama", 0, r"keep 1 to 2 of them"),
        ("bart", 1, r"its blocks are 2 lists, of which none can be cut yet"),
    ],
)
def test_what_cannot_be_cut_is_refused(family: str, blocks: int, told: str, text: Path, tmp_path: Path) -> None:
    """In one sentence, with nothing left behind."""
    model = make_family(family, tmp_path / "model")
    with pytest.raises(SpecError, match=told):
        make_student(StudentWish(str(model), blocks, tmp_path / "out", 1.0, str(text), 32, 32), tmp_path / "cache")
    assert not (tmp_path / "out").exists()
