"""Bytes of the level store against what it must hold, and the private memory of a worker."""

import gc
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from benchmarks.search.arena import Arena
from space.cost import module_bytes
from workers.levels.level_store import LevelStore
from workers.run.kept_outputs import LIMIT_BYTES
from workers.tasks import Evaluate
from workers.worker import Worker

NUM_SEQUENCES = 16


def private_bytes() -> int:
    """Return the private memory of this process: what no other one shares (Linux)."""
    lines = Path("/proc/self/smaps_rollup").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) * 1024 for line in lines if line.startswith("Private_"))


def level_store(arena: Arena) -> dict[str, Any]:
    """Return the bytes of the files of all levels of the arena, and the bytes that the search counts for them."""
    folder = Path(arena.workspace.cache_folder) / "levels"
    store = LevelStore(folder, arena.workspace.model_digest, arena.tokens.of("calibration"))
    on_disk, packed, count = 0, 0, 0
    for module in arena.inventory.modules:
        for level in arena.space.levels[module.name]:
            if not level.is_dense:
                on_disk += store.path(module.name, level).stat().st_size
                packed += module_bytes(module, level)
                count += 1
    return {"levels": count, "file_bytes": on_disk, "packed_bytes": packed, "ratio": on_disk / packed}


def worker_memory(arena: Arena) -> dict[str, Any]:
    """Return the private memory that a worker adds to its libraries, after few levels and after all."""
    torch.ones(8, 8) @ torch.ones(8, 8)
    import transformers.models.auto  # noqa: F401 (a worker's library)

    plans = [plan for _, plan in arena.space.uniform_plans()]
    arena.teach("search")
    gc.collect()
    before = private_bytes()
    worker = Worker(arena.workspace)
    grown = [_grown(worker, arena, part, before) for part in (plans[:1], plans[1:], plans)]
    return {
        "dense_checkpoint_bytes": arena.inventory.dense_bytes,
        "float32_weights_bytes": 4 * arena.inventory.num_parameters,
        "buffer_limit_bytes": LIMIT_BYTES,
        "private_after_one_plan": grown[0],
        "private_after_all_levels": grown[1],
        "private_after_all_levels_twice": grown[2],
    }


def _grown(worker: Worker, arena: Arena, plans: Sequence[Any], before: int) -> int:
    for plan in plans:
        worker.run(Evaluate(arena.tokens, plan, "search", NUM_SEQUENCES))
    gc.collect()
    return private_bytes() - before
