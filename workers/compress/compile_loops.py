"""Compiles the loops that levels are built by before they are needed: a first call does, and keeps them on disk."""

from collections.abc import Iterable

import torch

from space.codings.coding_table import CODINGS
from space.level import Level
from workers.compress.build import build_levels
from workers.compress.module_statistics import Statistics

_ROWS, _COLUMNS = 64, 256


def compile_loops(levels: Iterable[Level]) -> None:
    """Build levels of a small random weight, one for each coding, its bits and its rotation; on a CPU.

    Integers are always among them: dampings are chosen by these.
    """
    kinds = {(v.coding, v.bits, v.rotated): v for v in (*levels, Level(4, 64)) if _is_plain(v)}
    generator = torch.Generator().manual_seed(0)
    weight, inputs = (torch.randn(_ROWS, _COLUMNS, generator=generator) for _ in range(2))
    outputs = torch.randn(_ROWS, _ROWS, generator=generator)
    build_levels(weight, Statistics(inputs.T @ inputs, outputs.T @ outputs, {2: 1.0}), list(kinds.values()))


def _is_plain(level: Level) -> bool:
    if level.is_dense or level.sparsity or level.rank or CODINGS[level.coding].stands_alone:
        return False
    return _COLUMNS % (level.group_size or 1) == 0
