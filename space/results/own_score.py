"""What a plan says to a user's own questions, beside the dense model and beside what is right."""

from dataclasses import dataclass
from math import sqrt
from typing import Any

from space.results.front import Interval

_Z = 1.959964  # of 95 %


@dataclass(frozen=True, slots=True)
class OwnScore:
    """Shares of a user's questions.

    Attributes:
        num_questions: how many there are.
        agreement: share whose answer is that of the dense model.
        agreement_ci95: its interval.
        accuracy: share whose answer is right.
        accuracy_ci95: its interval.

    """

    num_questions: int
    agreement: float
    agreement_ci95: Interval
    accuracy: float
    accuracy_ci95: Interval

    @staticmethod
    def from_json(value: dict[str, Any] | None) -> "OwnScore | None":
        """Read the JSON object; None where nothing was asked."""
        if value is None:
            return None
        intervals = {name: tuple(value[name]) for name in ("agreement_ci95", "accuracy_ci95")}
        return OwnScore(**{**value, **intervals})


def marks_of(is_right: tuple[bool, ...], answers: tuple[str, ...], dense: tuple[str, ...]) -> str:
    """Return a digit for each question: 1 where the answer is right, and 2 more where it is the dense model's.

    >>> marks_of((True, False, True), ("0", "1", "2"), ("0", "1", "0"))
    '321'
    """
    marks = zip(is_right, answers, dense, strict=True)
    return "".join(str(right + 2 * (answer == wanted)) for right, answer, wanted in marks)


def score_of(marks: str | None) -> OwnScore | None:
    """Return the shares that marks stand for; None where there are none.

    >>> score_of("3210").agreement
    0.5
    """
    if not marks:
        return None
    count = len(marks)
    same, right = (sum(int(mark) & bit > 0 for mark in marks) for bit in (2, 1))
    return OwnScore(count, same / count, share_interval(same, count), right / count, share_interval(right, count))


def share_interval(hits: int, count: int) -> Interval:
    """Return the 95 % interval of a share (Wilson 1927): it stays between 0 and 1, also where all or none hit.

    >>> [round(end, 3) for end in share_interval(10, 10)]
    [0.722, 1.0]
    """
    share, spread = hits / count, _Z * _Z / count
    middle = (share + spread / 2) / (1 + spread)
    half = _Z * sqrt(share * (1 - share) / count + spread / (4 * count)) / (1 + spread)
    return max(0.0, middle - half), min(1.0, middle + half)
