"""The table of whole jobs: what was run holds, and the document says what was run."""

from benchmarks.targets.matrix import BUDGETS, DOCUMENT, OWN_LOADERS, read_rows, with_table
from space.targets.target_table import TARGETS


def test_every_target_has_budgets_and_a_loader() -> None:
    """Three of them each."""
    assert set(BUDGETS) == set(OWN_LOADERS) == set(TARGETS)
    assert {len(budgets) for budgets in BUDGETS.values()} == {3}


def test_what_was_run_holds() -> None:
    """Bytes predicted, within the budget; verified; the loader's KL is the recorded one."""
    rows = read_rows()
    assert rows
    assert all(row.verified and row.is_within and row.is_near for row in rows)
    document = DOCUMENT.read_text(encoding="utf-8")
    assert with_table(document, rows) == document
