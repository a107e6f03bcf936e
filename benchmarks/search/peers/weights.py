"""Dense weights and those of levels, outside the worker."""

from pathlib import Path

from torch import Tensor, nn

from benchmarks.search.arena import Arena
from space.level import Level
from workers.families.load_modules import load_model
from workers.levels.level_store import LevelStore


def load_dense(arena: Arena) -> tuple[nn.Module, dict[str, Tensor]]:
    """Return the dense model and module name -> (O, I) weight, tied ones once."""
    model: nn.Module = load_model(arena.model_folder)
    parameters = dict(model.named_parameters())
    return model, {m.name: parameters[m.weight.name].detach() for m in arena.inventory.modules}


def level_store(arena: Arena) -> LevelStore:
    """Return the store of the arena's levels."""
    workspace = arena.workspace
    folder = Path(workspace.cache_folder) / "levels"
    return LevelStore(folder, workspace.model_digest, arena.tokens.of("calibration"))


def level_change(store: LevelStore, name: str, level: Level, dense: Tensor) -> Tensor:
    """Return the (O, I) difference that a level makes to a dense weight."""
    return dense * 0 if level.is_dense else store.weight(name, level, dense.shape) - dense
