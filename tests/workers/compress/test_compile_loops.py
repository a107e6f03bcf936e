"""Loops compiled ahead are those that real levels are built by."""

from typing import Any

import torch

from space.level import parse_level
from workers.compress.build import build_levels
from workers.compress.builders.row_feedback import round_integers, round_trellis
from workers.compress.compile_loops import compile_loops
from workers.compress.module_statistics import Statistics
from workers.compress.settling.coordinate_descent import _change_block
from workers.kernels.compiled import compiled

LOOPS: tuple[Any, ...] = tuple(compiled(loop) for loop in (round_integers, round_trellis, _change_block))
MENU = [parse_level(text) for text in ("b2-g64", "b3-gch-t-h", "b4-g64-t-h-r8", "b4-g512", "dense")]


def signatures() -> list[int]:
    """Return for how many types of arguments each loop is compiled."""
    return [len(loop.signatures) for loop in LOOPS]


def test_nothing_is_compiled_later() -> None:
    """A weight of another shape, with what is known of its outputs, finds every loop compiled for its arguments."""
    compile_loops(MENU)
    before = signatures()
    weight = torch.randn(96, 128)
    built = build_levels(weight, Statistics(torch.eye(128), torch.eye(96), {2: 0.3, 3: 0.1}), MENU[:3])
    assert len(built) == 3
    assert signatures() == before
    assert min(before) == 1


def test_integers_are_always_compiled() -> None:
    """Dampings are chosen by them, whatever a menu has."""
    compile_loops([parse_level("exl3-4"), parse_level("b4-g64-z")])
    rounding, _, descent = LOOPS
    assert rounding.signatures
    assert descent.signatures
