"""Budgets as users write them."""

import pytest

from space.budget import format_bytes, parse_budget, parse_bytes
from space.errors import BudgetError
from space.spec import make_spec
from tests.space.values import inventory

MODEL = inventory()


@pytest.mark.parametrize(
    ("text", "size_bytes"),
    [
        ("4GiB", 4 * 2**30),
        ("3.5MB", 3_500_000),
        ("3.5 mb", 3_500_000),
        (" 100B ", 100),
        (".5KiB", 512),
        ("1TB", 10**12),
        ("60%", MODEL.dense_bytes * 60 // 100),
        ("3.25bpw", int(MODEL.num_parameters * 3.25) // 8),
        ("20tok/s@3GB/s", 150_000_000),
        ("2.5 TOK/s @ 1 KiB/s".replace("TOK", "tok"), 409),
        ("60%,100B", 100),
        ("1TB, 4 tok/s@1KB/s", 250),
    ],
)
def test_bytes_of_a_budget(text: str, size_bytes: int) -> None:
    """Sizes, shares of the dense checkpoint and bits per weight all mean bytes."""
    assert parse_budget(text).size_bytes(MODEL) == size_bytes


@pytest.mark.parametrize(
    "text",
    [
        *("3", "-1GiB", "four", "", "GiB", "0GiB", "0%", "1e3MB", "3 4GiB", "4GiBs", "nan%", "9" * 400 + "GiB"),
        *("20tok/s", "20tok/s@3GB", "3GB/s", "20tok/s@60%/s", "0tok/s@3GB/s", "4GiB,", "4GiB,four", "tok/s@3GB/s"),
    ],
)
def test_what_is_not_a_budget(text: str) -> None:
    """The message repeats the text and shows how to write one."""
    with pytest.raises(BudgetError, match="write a size") as caught:
        parse_budget(text)
    assert repr(text) in str(caught.value)
    assert caught.value.exit_code == 2


@pytest.mark.parametrize("text", ["60%", "1bpw", "20tok/s@3GB/s", "1GB,2GB"])
def test_what_is_no_size(text: str) -> None:
    """A memory limit is bytes alone."""
    with pytest.raises(BudgetError, match="is no size"):
        parse_bytes(text)


def test_a_request_checks_its_budget() -> None:
    """The same error comes from a request."""
    with pytest.raises(BudgetError, match="four"):
        make_spec(model="m", budget="four")


@pytest.mark.parametrize(("size", "text"), [(0, "0 B"), (1023, "1023 B"), (1024, "1.00 KiB"), (5 * 2**40, "5.00 TiB")])
def test_sizes_for_people(size: int, text: str) -> None:
    """Binary units, two decimals."""
    assert format_bytes(size) == text
