"""Shares of a user's questions: what marks stand for, and how sure a share is."""

import pytest

from space.results.own_score import OwnScore, marks_of, score_of, share_interval


def test_marks_tell_agreement_and_accuracy_apart() -> None:
    """A wrong answer may be the dense model's, and a right one another."""
    marks = marks_of((True, True, False, False), ("a", "b", "c", "d"), ("a", "x", "c", "x"))
    assert marks == "3120"
    found = score_of(marks)
    assert found == OwnScore(4, 0.5, share_interval(2, 4), 0.5, share_interval(2, 4))
    assert OwnScore.from_json({**_plain(found), "agreement_ci95": list(found.agreement_ci95)}) == found
    assert score_of(None) is None
    assert score_of("") is None


def test_questions_must_be_the_same() -> None:
    """Answers to other questions are no answers."""
    with pytest.raises(ValueError, match="zip"):
        marks_of((True,), ("a", "b"), ("a", "b"))


@pytest.mark.parametrize(("hits", "count", "low", "high"), [(81, 263, 0.2553, 0.3662), (15, 148, 0.0624, 0.1605)])
def test_intervals_are_those_of_the_literature(hits: int, count: int, low: float, high: float) -> None:
    """Newcombe, Statistics in Medicine 17 (1998), table I, method 3."""
    assert share_interval(hits, count) == pytest.approx((low, high), abs=5e-5)


def _plain(found: OwnScore) -> dict[str, object]:
    return {name: getattr(found, name) for name in OwnScore.__dataclass_fields__}
