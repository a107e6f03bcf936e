"""The benchmark of levels: what it calls errors and bytes is what they are."""

import pytest

from benchmarks.levels.candidates import CANDIDATES
from benchmarks.levels.matrices import Matrix
from benchmarks.levels.run import BASE, measure, summarise
from tests.workers.weights import correlated_hessian, output_error, random_weight


@pytest.mark.parametrize("name", CANDIDATES)
def test_candidates_are_quantized_well(name: str) -> None:
    """Each candidate is a rounding of the weight by error feedback, whose error falls with its bits."""
    weight, hessian = random_weight(32, 64), correlated_hessian(64)
    built = [CANDIDATES[name](weight, hessian, bits) for bits in (2, 3, 4)]
    errors = [output_error(weight, found, hessian) for found, _ in built]
    sizes = [size for _, size in built]
    assert errors[0] < 0.5
    assert errors[0] > 1.5 * errors[1] > 2 * errors[2]
    assert all(weight.numel() * bits / 8 < size for bits, size in zip((2, 3, 4), sizes, strict=True))


def test_ratios_are_to_group_64() -> None:
    """The base has ratio one at every bit-width, and errors are those of the definition."""
    matrix = Matrix("m", random_weight(32, 128), correlated_hessian(128), correlated_hessian(128, seed=2))
    rows = measure(matrix)
    found = summarise([rows])
    assert [row["ratio"] for row in found if row["kind"] == BASE] == [1.0, 1.0, 1.0]
    trellis = next(row for row in found if row["kind"] == "trellis, rotated" and row["bits"] == 2)
    assert trellis["stored_bits"] == pytest.approx(2 + 16 / 128)
    assert trellis["ratio"] < 0.9
    assert trellis["held_out"] != trellis["error"]
