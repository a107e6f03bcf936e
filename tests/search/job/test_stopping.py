"""When a search stops, and what it tells the user."""

from search.job.stopping import StopRule


def test_trials() -> None:
    """The limit is reached, not exceeded."""
    rule = StopRule(3)
    assert rule.reason(2) is None
    assert rule.reason(3) == "3 trials done, the limit"


def test_minutes() -> None:
    """Time counts from the start of the rule."""
    now = 1000.0
    rule = StopRule(99, max_minutes=1.5, clock=lambda: now)
    now = 1090.0
    assert rule.reason(0) is None
    now = 1090.1
    assert rule.reason(0) == "1.5 minutes are over"


def test_flat_rounds() -> None:
    """Only rounds of refinement count, and growth starts the count again."""
    rule = StopRule(99)
    for hypervolume, is_refinement in [(0.5, False), (0.5, False), (0.5, True), (0.6, True), (0.6, True)]:
        rule.note_batch(hypervolume, is_refinement=is_refinement)
        assert rule.reason(0) is None
    rule.note_batch(0.6005, is_refinement=True)
    assert rule.reason(0) == "the front has not grown for 2 rounds"
