"""Output factors: sums over gradients of the model's own answers, wherever blocks' outputs are kept on the way."""

from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor, nn
from torch.nn import functional

from space.level import Level
from tests.workers.tiny_models import Bench, TinyKind
from workers.damping_choice import choose_damping
from workers.families.load_modules import load_model
from workers.levels import output_factors
from workers.levels.dampings import CANDIDATES, load_dampings
from workers.levels.output_factors import has_factor, is_looked_up, load_factor, load_lookups
from workers.levels.statistics import calibration_folder, load_hessian, load_statistics
from workers.run.backward_pass import BackwardPass
from workers.tasks import DAMPED_BITS, BuildLevels, Calibrate, ChooseDamping
from workers.worker import Worker

Benches = Callable[[TinyKind], Bench]
NEEDS: Any = ("hessian", "output_factor")


def _folder(at: Bench, cache: Path | str) -> Path:
    return calibration_folder(Path(cache), at.tokens.of("calibration"))


@pytest.mark.parametrize("kind", ["tied", "phi", "opt"])
def test_factors_are_those_of_the_whole_model(bench: Benches, kind: TinyKind) -> None:
    """By autograd through all of it, with the same answers drawn."""
    at = bench(kind)
    model: Any = load_model(at.folder)
    modules = [m for m in at.workspace.inventory.modules if has_factor(m)]
    looked_up = [m for m in at.workspace.inventory.modules if is_looked_up(m)]
    assert modules
    assert looked_up
    sums = {m.name: torch.zeros(m.out_features, m.out_features) for m in modules}
    sums |= {m.name: torch.zeros(m.in_features, m.in_features) for m in looked_up}
    energy = 0.0

    def watch(name: str) -> Callable[[nn.Module, Any, Tensor], Tensor]:
        def add(gradient: Tensor) -> None:
            sums[name].add_(gradient.flatten(0, -2).T @ gradient.flatten(0, -2))

        def take(_module: nn.Module, _inputs: Any, output: Tensor) -> Tensor:
            output.requires_grad_().register_hook(add)
            return output.clone()

        return take

    for module in modules + looked_up:
        model.get_submodule(module.name).register_forward_hook(watch(module.name))
    generator = torch.Generator().manual_seed(0)
    with torch.enable_grad():
        for row in at.tokens.load("calibration"):
            logits = model(input_ids=row[None]).logits[0, :-1]
            drawn = torch.multinomial(logits.detach().softmax(-1), 1, generator=generator)[:, 0]
            functional.cross_entropy(logits, drawn, reduction="sum").backward()
            energy += float((1 - logits.detach().softmax(-1).square().sum(-1)).sum())
    folder = _folder(at, at.workspace.cache_folder)
    for module in modules + looked_up:
        lookups = load_lookups(folder, module)
        found = load_factor(folder, module) if lookups is None else lookups[0]
        assert found is not None
        if lookups is not None:
            assert lookups[1] == pytest.approx(energy / at.tokens.load("calibration").numel(), rel=1e-4)
        torch.testing.assert_close(found, sums[module.name], rtol=1e-3, atol=1e-4 * float(found.abs().max()))


def test_an_embedding_is_known_by_both_of_its_uses(bench: Benches) -> None:
    """Tied: by gradients where it is looked up, and by inputs of the head, in one unit; else by the former alone."""
    for kind in ("tied", "phi"):
        at = bench(kind)
        folder, inventory = _folder(at, at.workspace.cache_folder), at.workspace.inventory
        module = next(m for m in inventory.modules if is_looked_up(m))
        lookups = load_lookups(folder, module)
        assert lookups is not None
        expected = lookups[0]
        if module.tied:
            head = replace(module, kind="linear")
            others = tuple(m for m in inventory.modules if m != module)
            inputs = load_hessian(folder, replace(inventory, modules=(head, *others)), module.name)
            expected = expected + inputs * lookups[1]
        torch.testing.assert_close(load_hessian(folder, inventory, module.name), expected)


def test_outputs_may_lie_in_files(bench: Benches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """To the same bits, for a model that is run block by block too; the files are gone afterwards."""
    at = bench("tied")
    monkeypatch.setattr(output_factors, "_KEPT_BYTES", 0)
    streamed = replace(at.workspace, cache_folder=str(tmp_path), memory_bytes=1)
    Worker(streamed).run(Calibrate(at.tokens))
    here, there = (_folder(at, cache) for cache in (tmp_path, at.workspace.cache_folder))
    names = sorted(path.name for path in there.glob("*.safetensors"))
    assert sorted(path.name for path in here.iterdir()) == names
    assert all((here / name).read_bytes() == (there / name).read_bytes() for name in names)


def test_a_model_that_cannot_be_differentiated_is_rounded_one_sided(
    bench: Benches, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nothing is asked again, and levels are built."""
    at = bench("tied")

    def refuse(*_: Any, **__: Any) -> None:
        raise NotImplementedError("no backward")

    monkeypatch.setattr(BackwardPass, "back", refuse)
    worker = Worker(replace(at.workspace, cache_folder=str(tmp_path)))
    worker.run(Calibrate(at.tokens))
    for bits in DAMPED_BITS:
        worker.run(ChooseDamping(at.tokens, bits))
    assert load_dampings(_folder(at, tmp_path)) == dict.fromkeys(DAMPED_BITS, None)
    name, level = at.workspace.inventory.modules[1].name, Level(4, 16)
    task = BuildLevels(at.tokens, name, ((level, 100),), (level,))
    assert not worker.lacks(task)
    assert load_statistics(_folder(at, tmp_path), at.workspace.inventory, name, NEEDS).output_factor is None
    assert worker.run(task)[0].output_error > 0


@pytest.mark.parametrize(
    ("answers", "chosen"),
    [
        ((1.0, 2.0, 2.0, 2.0), None),
        ((2.0, 1.0, 3.0, 3.0), 0.3),
        ((2.0, 1.0, 0.97, 0.98), 0.3),
        ((2.0, 1.0, 0.9, 0.8), 0.1),
        ((2.0, 2.1, 1.99, 3.0), 1.0),
    ],
)
def test_the_usual_one_unless_another_is_clearly_better(
    bench: Benches, answers: tuple[float, ...], chosen: float | None
) -> None:
    """One-sided rounding is among what is tried, and taken where nothing has less KL."""
    at, left = bench("tied"), list(answers)
    seen: list[Tensor] = []

    def measure(plan: Any, weight: Any) -> float:
        name, level = next((n, v) for n, v in plan.levels if not v.is_dense)
        seen.append(weight(name, level, None))
        return left.pop(0)

    folder = _folder(at, at.workspace.cache_folder)
    damping, found = choose_damping(at.worker.engine, at.workspace.inventory, folder, 3, measure)
    assert (damping, list(found.values()), left) == (chosen, list(answers), [])
    assert list(found) == [str(candidate) for candidate in CANDIDATES]
    assert all(not one.equal(other) for one, other in pairwise(seen))
