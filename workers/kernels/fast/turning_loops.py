"""Transforms of activations in place: Hadamard's in blocks, between products with two vectors of factors."""

from typing import Any

import numpy as np

_LANES = 16  # rows that are turned side by side


def turn(x: Any, start: int, width: int, before: Any, after: Any) -> None:
    """Turn (N, I) float32 rows in place, from column `start` on as far as (S,) `before` and `after` reach.

    Columns are multiplied with `before`, each `width` of them are turned (not normalised), then with `after`.
    """
    columns, whole = len(before), len(x) // _LANES * _LANES
    some = np.empty((columns, _LANES), np.float32)
    flat = some.reshape(-1)
    for first in range(0, whole, _LANES):
        for i in range(columns):
            for lane in range(_LANES):
                some[i, lane] = x[first + lane, start + i] * before[i]
        half = 1
        while half < width:
            for left in range(0, columns * _LANES, 2 * half * _LANES):
                low, high = flat[left : left + half * _LANES], flat[left + half * _LANES : left + 2 * half * _LANES]
                for i in range(half * _LANES):
                    a, b = low[i], high[i]
                    low[i], high[i] = a + b, a - b
            half *= 2
        for lane in range(_LANES):
            for i in range(columns):
                x[first + lane, start + i] = some[i, lane] * after[i]
    for t in range(whole, len(x)):
        row = x[t, start : start + columns]
        for i in range(columns):
            row[i] *= before[i]
        half = 1
        while half < width:
            for left in range(0, columns, 2 * half):
                low, high = row[left : left + half], row[left + half : left + 2 * half]
                for i in range(half):
                    a, b = low[i], high[i]
                    low[i], high[i] = a + b, a - b
            half *= 2
        for i in range(columns):
            row[i] *= after[i]
