"""A worker measures what a direct computation finds, keeps nothing from plan to plan, and repairs its store."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import torch
from safetensors.torch import load
from torch import Tensor

import workers.worker
from space.cost import module_bytes
from space.errors import CalibrationError, TrialError
from space.level import DENSE, Level
from space.plan import Plan
from tests.workers.tiny_models import EVERY_KIND, Bench, TinyKind, make_workspace, text_request
from workers.families.load_modules import load_model
from workers.run.kept_outputs import names_by_stage
from workers.tasks import BuildLevels, Calibrate, Evaluate, PrepareText, Teach
from workers.worker import Worker

Benches = Callable[[TinyKind], Bench]


def _log_p(at: Bench, plan: Plan) -> Tensor:
    """Return (N, T - 1, V) log-probabilities on the search text, in double precision."""
    tokens = at.tokens.load("search")
    parts = list(at.worker.logits(plan, at.tokens, tokens.split(4)))
    return torch.cat(parts)[:, :-1].double().log_softmax(-1)


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_dense_plan_loses_nothing(bench: Benches, kind: TinyKind) -> None:
    """The dense model has no KL to itself, and the perplexity that transformers' own loss gives."""
    at = bench(kind)
    found = at.worker.run(Evaluate(at.tokens, at.dense_plan(), "search"))
    model, tokens = load_model(at.folder), at.tokens.load("search")
    with torch.no_grad():
        perplexity = float(model(input_ids=tokens, labels=tokens).loss.double().exp())
    assert max(map(abs, found.sequence_kl)) < 2e-6
    assert found.perplexity == pytest.approx(perplexity, rel=1e-5)
    assert at.worker.run(Teach(at.tokens, "search")) == pytest.approx(perplexity, rel=1e-5)
    assert found.num_tokens == len(tokens) * (tokens.shape[1] - 1)


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_calibration_computes_logits_of_one_sequence_at_a_time(bench: Benches, kind: TinyKind, tmp_path: Path) -> None:
    """On the way back alone; those of a batch would take gigabytes where the vocabulary is large."""
    at = bench(kind)
    worker = Worker(replace(at.workspace, cache_folder=str(tmp_path)))
    calls: list[int] = []
    head = worker.engine.runner.model.get_output_embeddings()
    head.register_forward_hook(lambda _module, inputs, _output: calls.append(len(inputs[0])))
    worker.run(Calibrate(at.tokens))
    assert calls == [1] * len(at.tokens.load("calibration"))
    found, expected = (
        sorted(Path(folder).glob("calibration-*/*.safetensors")) for folder in (tmp_path, at.workspace.cache_folder)
    )
    assert found != []
    assert [p.name for p in found] == [p.name for p in expected]
    assert [p.read_bytes() for p in found] == [p.read_bytes() for p in expected]
    assert worker.run(Teach(at.tokens, "search")) > 1
    assert calls != []


@pytest.mark.parametrize("kind", ["tied", "phi"])
def test_kl_is_that_of_torch(bench: Benches, kind: TinyKind) -> None:
    """KL and perplexity equal torch's on whole log-probabilities, sequence by sequence."""
    at = bench(kind)
    plan = at.plan(EVERY_KIND)
    found = at.worker.run(Evaluate(at.tokens, plan, "search"))
    dense, now = _log_p(at, at.dense_plan()), _log_p(at, plan)
    expected = torch.nn.functional.kl_div(now, dense, reduction="none", log_target=True).sum(-1).mean(-1)
    assert found.kl_divergence > 0.01
    assert found.sequence_kl == pytest.approx(expected.tolist(), rel=1e-4)
    loss = -now.gather(-1, at.tokens.load("search")[:, 1:, None]).mean()
    assert found.perplexity == pytest.approx(float(loss.exp()), rel=1e-5)


@pytest.mark.parametrize("kind", ["tied", "untied", "phi", "opt"])
@pytest.mark.parametrize("memory", [None, 1], ids=["whole", "streams"])
def test_the_plan_before_changes_no_bit(bench: Benches, kind: TinyKind, memory: int | None) -> None:
    """A module changed anywhere gives the numbers of a new worker, whatever was measured before, and costs less."""
    at = bench(kind)
    base = at.plan(["b6-g32"])
    worker = Worker(replace(at.workspace, memory_bytes=memory))
    for module in at.workspace.inventory.modules:
        plan = base.replace({module.name: Level(2, 32)})
        at.build(plan)
        whole = Worker(at.workspace).run(Evaluate(at.tokens, plan, "search", 5))
        short = worker.run(Evaluate(at.tokens, plan, "search", 5))
        assert short.sequence_kl == whole.sequence_kl, module.name
        assert short.perplexity == whole.perplexity
        assert short.token_forwards <= whole.token_forwards
        worker.run(Evaluate(at.tokens, base, "search", 5))


def test_a_model_that_streams_holds_nothing_between_plans(bench: Benches) -> None:
    """Also where its reader stops early, or a level cannot be read."""
    at = bench("opt")
    engine = Worker(replace(at.workspace, memory_bytes=1)).engine
    batches, plan = at.tokens.load("search").split(4), at.plan(["b6-g32"])
    held = engine._resident._held

    def damaged(name: str, level: Level, shape: torch.Size) -> Tensor:
        if name.endswith("1.fc2"):
            raise OSError(name)
        return at.store.weight(name, level, shape)

    reader = engine.logits(plan, at.store.weight, batches)
    next(reader)
    assert held
    del reader
    assert not held
    with pytest.raises(OSError, match="fc2"):
        next(engine.logits(plan, damaged, batches))
    assert not held


@pytest.mark.parametrize(
    ("kind", "outside", "head"),
    [
        ("tied", ["model.embed_tokens"], ["model.embed_tokens"]),
        ("untied", ["model.embed_tokens"], ["lm_head"]),
        (
            "opt",
            ["embed_tokens", "embed_positions", "project_out", "project_in"],
            ["embed_tokens", "project_out", "project_in"],
        ),
    ],
)
def test_what_stages_need(bench: Benches, kind: TinyKind, outside: list[str], head: list[str]) -> None:
    """What is outside the blocks is there where it takes part, and never between two blocks if it is an embedding."""
    inventory = bench(kind).workspace.inventory
    first, *between, last = names_by_stage(inventory, "lm_head")
    blocks = [m.name for m in inventory.modules if m.block == 0]
    assert [name.removeprefix("model.decoder.") for name in first if name not in blocks] == outside
    assert [name.removeprefix("model.decoder.") for name in last] == head
    assert not any("embed" in name for stage in between for name in stage)


def test_later_blocks_cost_less(bench: Benches) -> None:
    """Work is counted from the first changed block on; a head alone costs its own share."""
    at = bench("untied")
    base = at.plan(["b6-g32"])
    costs = {}
    for name in ("model.layers.0.mlp.up_proj", "model.layers.1.mlp.up_proj", "lm_head"):
        plan = base.replace({name: Level(2, 32)})
        at.build(plan)
        at.worker.run(Evaluate(at.tokens, base, "search"))
        costs[name] = at.worker.run(Evaluate(at.tokens, plan, "search")).token_forwards
    whole = at.tokens.load("search").numel()
    assert list(costs.values()) == pytest.approx([whole, whole * 2 / 3, whole / 3])


def test_going_back_is_exact(bench: Benches) -> None:
    """A, then B, then the dense model, then A: the last measurement is the first one."""
    at = bench("untied")
    one, other = at.plan(EVERY_KIND), at.plan(EVERY_KIND[3:] + EVERY_KIND[:3])
    found = [at.worker.run(Evaluate(at.tokens, p, "search")) for p in (one, other, at.dense_plan(), one, other)]
    assert replace(found[3], seconds=found[0].seconds) == found[0]
    assert replace(found[4], seconds=found[1].seconds) == found[1]
    assert found[0].kl_divergence != found[1].kl_divergence


def test_calibration_is_of_the_dense_model(bench: Benches, tmp_path: Path) -> None:
    """Teacher and Hessians do not depend on which plan the worker held before."""
    at = bench("tied")
    plan = at.plan(["b2-g32"])
    worker = Worker(replace(at.workspace, cache_folder=str(tmp_path)))
    (tmp_path / "levels").symlink_to(Path(at.workspace.cache_folder) / "levels")
    next(worker.logits(plan, at.tokens, [at.tokens.load("search")[:1]]))
    worker.run(Calibrate(at.tokens))
    worker.run(Teach(at.tokens, "search"))
    for folder in (tmp_path, tmp_path / f"calibration-{at.tokens.of('calibration')[:16]}"):
        for path in folder.glob("*.safetensors"):
            there = Path(at.workspace.cache_folder) / path.relative_to(tmp_path)
            assert path.read_bytes() == there.read_bytes()


def _task(at: Bench, name: str = "model.layers.0.mlp.down_proj") -> BuildLevels:
    module = at.workspace.inventory.module(name)
    levels = (Level(2, 16), Level(3, None), Level(4, 16), Level(4, 16, 0.5), Level(8, None), DENSE)
    return BuildLevels(at.tokens, name, tuple((v, module_bytes(module, v)) for v in levels), (Level(4, 16),))


def test_records_are_sorted_and_not_dominated(bench: Benches) -> None:
    """Of the built levels those stay that no other beats, and the required one; dense has no error."""
    at = bench("tied")
    records = at.worker.run(_task(at))
    sizes, errors = [r.size_bytes for r in records], [r.output_error for r in records]
    assert sizes == sorted(sizes)
    assert errors == sorted(errors, reverse=True)
    assert Level(4, 16) in [r.level for r in records]
    assert (records[-1].level, records[-1].output_error) == (DENSE, 0.0)


def test_second_worker_builds_nothing(bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """Levels are made once; whoever asks again gets the same answer."""
    at = bench("tied")
    expected = at.worker.run(_task(at))

    def refuse(*_: Any) -> None:
        raise AssertionError("built again")

    monkeypatch.setattr(workers.worker, "build_levels", refuse)
    monkeypatch.setattr(workers.worker, "Engine", refuse)
    assert Worker(make_workspace(at.folder, Path(at.workspace.cache_folder))).run(_task(at)) == expected


@pytest.mark.parametrize(
    "damage",
    [
        lambda data: data[: len(data) // 2],
        lambda data: data[:-1],
        lambda data: b"",
        lambda data: b"\xff" * len(data),
        lambda data: (2).to_bytes(8, "little") + b"{}",
        lambda data: data[:8] + data[8:].replace(b"output_error", b"output_terror", 1)[: len(data) - 8],
    ],
)
def test_damaged_level_is_rebuilt(bench: Benches, damage: Callable[[bytes], bytes]) -> None:
    """A file that is not whole is made again, with the same tensors."""
    at = bench("tied")
    expected = at.worker.run(_task(at))
    path = at.store.path(_task(at).module_name, Level(4, 16))
    whole = path.read_bytes()
    path.write_bytes(damage(whole))
    assert Worker(at.workspace).run(_task(at)) == expected
    expected_tensors = load(whole)
    assert all(tensor.equal(expected_tensors[name]) for name, tensor in load(path.read_bytes()).items())


@pytest.mark.parametrize("text", ["", "[[", "{}", '[["b9",1,2]]'])
def test_damaged_records_are_made_again(bench: Benches, text: str) -> None:
    """An answer that cannot be read is not an answer."""
    at = bench("tied")
    expected = at.worker.run(_task(at))
    at.store._records_path(_task(at)).write_text(text, encoding="utf-8")
    assert Worker(at.workspace).run(_task(at)) == expected


@pytest.mark.parametrize("damage", [lambda _: b"", lambda data: data[:-1], lambda data: data[: len(data) // 2]])
def test_damaged_answers_and_sums_are_made_again(bench: Benches, damage: Callable[[bytes], bytes]) -> None:
    """What a power cut left of the dense model's answers and of the calibration's sums is no reason to stop."""
    at = bench("tied")
    plan = at.plan(EVERY_KIND)
    expected = at.worker.run(Evaluate(at.tokens, plan, "search"))
    answers = at.worker.teacher_path(at.tokens, "search")
    (block,) = answers.parent.glob("calibration-*/block-0001.safetensors")
    whole = {path: path.read_bytes() for path in (answers, block)}
    for path, data in whole.items():
        path.unlink()  # a worker has it in its memory
        path.write_bytes(damage(data))
    fresh = Worker(at.workspace)
    fresh.run(Calibrate(at.tokens))
    fresh.run(Teach(at.tokens, "search"))
    assert {path: path.read_bytes() for path in whole} == whole
    assert fresh.run(Evaluate(at.tokens, plan, "search")).sequence_kl == expected.sequence_kl


def test_what_is_no_number_fails_its_trial(bench: Benches, monkeypatch: pytest.MonkeyPatch) -> None:
    """The error names the plan; a record could not hold it."""
    at = bench("tied")
    monkeypatch.setattr(workers.worker, "sequence_quality", lambda *_: ([1.0, float("nan")], [1.0, 1.0]))
    with pytest.raises(TrialError, match=r"plan [0-9a-f]{12}: the search text gives no finite KL"):
        at.worker.run(Evaluate(at.tokens, at.dense_plan(), "search"))


def test_no_sampling_from_a_model_that_streams(bench: Benches) -> None:
    """It would take a whole pass over the disk for every token; the message says what to do."""
    at = bench("tied")
    worker = Worker(replace(at.workspace, memory_bytes=1))
    with pytest.raises(CalibrationError, match="Give --calibration"):
        worker.run(PrepareText(text_request(None)))
