"""The best symbols of a tile: exact Viterbi search over 65,536 states, in compiled loops on CPUs, in torch elsewhere.

A ring is closed in two passes: one from any state to any, turned by half a ring, says in which state the ring meets
itself; the next begins and ends there (the tail-biting search of QTIP, arXiv 2406.11235, section 3.2).
Cost is the squared distance to the values of the codebook. K bits go on with every step, so the 2^K states that share
their lower 16 - K bits have the same ways on: only the best of each such group is kept.
Shape legend: T tiles, K bits, G = 2^(16 - K) groups, B tiles at a time.
"""

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache

import numpy as np
import torch
from torch import Tensor

from workers.kernels.compiled import compiled
from workers.kernels.exl3.exl3_code import RING, STATES, codebook

_BLOCK = 1024  # groups at a time: what is looked at stays in the nearest cache
_NEVER = 1e30
_VALUES = 2**26  # of one step of the search in torch


def best_states(targets: Tensor, bits: int) -> Tensor:
    """Return the (T, 256) int64 states of the cheapest rings for (T, 256) float32 targets, in units of the codebook."""
    if targets.device.type == "cpu":
        return _by_compiled_loops(targets, bits)
    return best_states_in_torch(targets, bits)


def _by_compiled_loops(targets: Tensor, bits: int) -> Tensor:
    wanted, states = np.ascontiguousarray(targets.numpy(), np.float32), np.empty(targets.shape, np.int64)

    def run(tiles: np.ndarray) -> None:
        room = np.empty((RING + 1, STATES >> bits), np.float32), np.empty((2, _BLOCK), np.float32)
        for tile in tiles:
            _close_ring(wanted[tile], states[tile], bits, *room)

    parts = np.array_split(np.arange(len(wanted)), max(1, min(torch.get_num_threads(), len(wanted))))
    run(parts[0][:1])  # compiled once, not by several threads at the same time
    if len(parts) == 1:
        run(parts[0][1:])
    else:
        _in_threads(run, parts)
    return torch.from_numpy(states)


def _in_threads(run: Callable[[np.ndarray], None], parts: Sequence[np.ndarray]) -> None:
    with ThreadPoolExecutor(len(parts)) as threads:
        list(threads.map(run, parts))


def _close_ring(wanted: np.ndarray, states: np.ndarray, bits: int, best: np.ndarray, near: np.ndarray) -> None:
    """Fill (256,) `states` of one tile in two passes; (257, G) `best` and (2, 1024) `near` are room to work in."""
    forward, backward = compiled(_forward_of(bits)), compiled(_backward_of(bits))
    half, code = RING // 2, codebook().numpy()
    turned = np.roll(wanted, -half)
    best[0] = 0
    forward(turned, code, best, near)
    backward(turned, code, best, best[RING].argmin(), states)
    meeting = states[half - 1] & (STATES >> bits) - 1
    best[0] = _NEVER
    best[0, meeting] = 0
    forward(wanted, code, best, near)
    backward(wanted, code, best, meeting, states)


@lru_cache
def _forward_of(bits: int) -> Callable[..., None]:
    """Return the search forward, for one bit-width, so that its loops have fixed lengths."""
    ways, groups = 1 << bits, STATES >> bits
    block = min(_BLOCK, groups)
    before, apart = block >> bits, groups >> bits

    def forward(wanted: np.ndarray, code: np.ndarray, best: np.ndarray, near: np.ndarray) -> None:
        """Fill (257, G) `best`, whose first row is given: the least cost of each group after each step."""
        near0, near1 = near[0], near[1]
        for t in range(RING):
            value, old = wanted[t], best[t]
            for start in range(0, groups, block):
                new = best[t + 1, start : start + block]
                for way in range(0, ways, 2):
                    at, first = (way * groups + start) >> bits, way * groups + start
                    for j in range(before):
                        for a in range(ways):
                            near0[j * ways + a] = old[at + j]
                        for a in range(ways):
                            near1[j * ways + a] = old[at + apart + j]
                    code0, code1 = code[first : first + block], code[first + groups : first + groups + block]
                    for g in range(block):
                        off0, off1 = value - code0[g], value - code1[g]
                        cost = min(near0[g] + off0 * off0, near1[g] + off1 * off1)
                        new[g] = min(new[g], cost) if way else cost

    return forward


@lru_cache
def _backward_of(bits: int) -> Callable[..., None]:
    """Return the way back through what `_forward_of` found."""
    ways, groups = 1 << bits, STATES >> bits

    def backward(wanted: np.ndarray, code: np.ndarray, best: np.ndarray, group: int, states: np.ndarray) -> None:
        """Fill (256,) `states` with the way that ends in a group."""
        for t in range(RING - 1, -1, -1):
            state, least = 0, np.float32(2 * _NEVER)
            for way in range(ways):
                off = wanted[t] - code[way * groups + group]
                cost = best[t, (way * groups + group) >> bits] + off * off
                if cost < least:
                    state, least = way * groups + group, cost
            states[t] = state
            group = state >> bits

    return backward


def best_states_in_torch(targets: Tensor, bits: int) -> Tensor:
    """Return the same by plain torch, on any device: the reference, and what GPUs run."""
    count = max(1, _VALUES // STATES)
    return torch.cat([_both_passes(part, bits) for part in targets.split(count)])


def _both_passes(targets: Tensor, bits: int) -> Tensor:
    groups, half = STATES >> bits, RING // 2
    free = torch.zeros(len(targets), groups, device=targets.device)
    turned = targets.roll(-half, 1)
    costs, ways = _forward(turned, free, bits)
    meeting = _backward(ways, costs.argmin(1), bits)[:, half - 1] & (groups - 1)
    pinned = torch.full_like(free, _NEVER).scatter_(1, meeting[:, None], 0.0)
    _, ways = _forward(targets, pinned, bits)
    return _backward(ways, meeting, bits)


def _forward(targets: Tensor, start: Tensor, bits: int) -> tuple[Tensor, list[Tensor]]:
    """Return the (B, G) costs at the end and, for every step, the (B, G) uint8 best ways into each group."""
    code, costs, ways = codebook().to(targets.device), start, []
    for wanted in targets.unbind(1):
        every = (wanted[:, None] - code).square_().add_(costs.repeat_interleave(1 << bits, 1))
        costs, way = every.view(len(targets), 1 << bits, -1).min(1)
        ways.append(way.to(torch.uint8))
    return costs, ways


def _backward(ways: list[Tensor], group: Tensor, bits: int) -> Tensor:
    """Return the (B, 256) states of the ways that end in (B,) groups."""
    states = []
    for way in reversed(ways):
        state = way.gather(1, group[:, None])[:, 0].long() * way.shape[1] + group
        states.append(state)
        group = state >> bits
    return torch.stack(states[::-1], 1)
