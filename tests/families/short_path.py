"""A family's path without a search: levels built, a plan measured, exported, loaded again and compared.

What a search would choose is given: 4 and 8 bits in turn. All that depends on the family is there.
"""

from dataclasses import asdict
from pathlib import Path
from typing import Any

import torch

from space.cost import module_bytes
from space.inventory import Inventory
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.question import QUESTIONS
from space.targets.target_table import is_legal
from tests.families.sample_sources import source_of
from tightfit.export.checkpoint import write_checkpoint
from tightfit.export.source import Source
from tightfit.export.verify import Promise, verify_export
from workers.levels.level_store import LevelStore
from workers.models.model_files import model_digest
from workers.samples.sample_table import make_samples, read_samples
from workers.tasks import BuildLevels, Calibrate, Evaluate, PriceModules, Teach, Workspace
from workers.text.text_sources import Split
from workers.text.tokens import TextRequest, TokenSet, save_tokens
from workers.worker import Worker

_LEVELS = (parse_level("b4-g32"), parse_level("b8-g32"))
_PREFIX_TOLERANCE = 1e-6


def walk(model: Path, folder: Path, inventory: Inventory, target: str = "packed") -> float:
    """Take a model from its inventory to an export in folder/out; return the largest difference of logits.

    Raises:
        TightfitError: something on the way is refused, or the export is not what it should be.

    """
    return walked(model, folder, inventory, target)[0]


def walked(model: Path, folder: Path, inventory: Inventory, target: str = "packed") -> tuple[float, Source]:
    """Return the largest difference of logits, and what was exported to folder/out.

    Raises:
        TightfitError: something on the way is refused, or the export is not what it should be.

    """
    workspace = Workspace(str(model), str(folder), model_digest(model), inventory)
    worker = Worker(workspace)
    tokens = _samples(model, folder, inventory, worker)
    worker.run(Calibrate(tokens))
    worker.run(Teach(tokens, "held_out"))
    worker.run(PriceModules(tokens, 2))
    plan = Plan.of({m.name: _level(inventory, index, target) for index, m in enumerate(inventory.modules)})
    for module in inventory.modules:
        level = plan[module.name]
        if not level.is_dense:
            sizes = ((level, module_bytes(module, level)),)
            worker.run(BuildLevels(tokens, module.name, sizes, (level,)))
    _check_prefixes(worker, workspace, tokens, plan)
    measured = worker.run(Evaluate(tokens, plan, "held_out"))
    store = LevelStore(folder / "levels", workspace.model_digest, tokens.of("calibration"))
    (folder / "out").mkdir()
    source = Source(model, inventory, store, plan)
    written = write_checkpoint(folder / "out", source, target)
    request = {k: v for k, v in asdict(workspace).items() if k in ("model_folder", "cache_folder", "model_digest")}
    request |= {"tokens": tokens.to_json(), "device": "cpu"}
    promise = Promise(written.size_bytes, measured.kl_divergence)
    return verify_export(written, inventory, plan, target, promise, request).logit_difference, source


def _samples(model: Path, folder: Path, inventory: Inventory, worker: Worker) -> TokenSet:
    kind = QUESTIONS[inventory.family].samples
    if kind == "tokens":
        return _tokens(folder)
    dense = lambda: worker.engine.whole_dense()  # noqa: E731, PLW0108 (made when it is asked for)
    request = TextRequest(str(source_of(kind, folder)), 24, 4, 4, 4, 0)
    return make_samples(kind, model, request, read_samples(kind, model, request), folder, dense)


def _tokens(folder: Path) -> TokenSet:
    generator = torch.Generator().manual_seed(3)
    splits: tuple[Split, ...] = ("calibration", "search", "held_out")
    chosen: Any = {split: torch.randint(5, 250, (4, 24), generator=generator) for split in splits}
    return save_tokens(chosen, folder, "random tokens")


def _level(inventory: Inventory, index: int, target: str) -> Level:
    legal = [level for level in _LEVELS if is_legal(inventory.modules[index], level, target)]
    return legal[index % len(legal)] if legal else DENSE


def _check_prefixes(worker: Worker, workspace: Workspace, tokens: TokenSet, plan: Plan) -> None:
    """Check that a plan that differs in the last block alone is measured the same from there as from the start."""
    last = {m.name for m in workspace.inventory.modules if m.block == workspace.inventory.num_blocks - 1}
    dense = Plan.of({m.name: DENSE for m in workspace.inventory.modules})
    nearly = Plan.of({name: level if name in last else DENSE for name, level in plan.levels})
    worker.run(Evaluate(tokens, dense, "held_out"))
    here, anew = (w.run(Evaluate(tokens, nearly, "held_out")).sequence_kl for w in (worker, Worker(workspace)))
    assert max(abs(a - b) for a, b in zip(here, anew, strict=True)) < _PREFIX_TOLERANCE
