"""Racing: a plan that was measured on the first sequences pays only for the rest, and gets the same answer."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from search.decide.observation import RACE_STEP, SENSITIVITY, Proposal
from search.measure.answer_keys import count_sequences
from search.measure.known_answers import KnownAnswers, Question, question_of
from search.measure.questions import Answer, Answerer
from search.measure.sketches import SketchBook
from space.level import Level
from space.measurement import Measurement
from storage.in_memory import MemoryStore
from tests.search.scripted import ScriptedExecutor, measure, prepared, sketch, spec
from workers.tasks import Evaluate
from workers.text.tokens import TokenSet

TOKENS = TokenSet("/scripted/tokens", "", ("a", "b", "c"))
PLAN = prepared(spec()).space.uniform_plan(Level(3, 64))
PROBE = question_of(Proposal(PLAN, SENSITIVITY, 16, PLAN))


class Bench:
    """A store, a library on it and an executor."""

    def __init__(self, folder: Path, num_search: int = 32) -> None:
        self.book = SketchBook(folder)
        self.store, self.executor, self.num_teaches = MemoryStore(), ScriptedExecutor(), 0
        self.num_search = num_search
        self.again()

    def again(self) -> None:
        """Read the store as a new job would."""
        known_answers = KnownAnswers(
            self.store, "m" * 64, TOKENS, {"search": self.num_search, "held_out": 64}, self.book
        )
        self.answerer = Answerer(known_answers, self.executor, lambda: None, self._teach)

    def _teach(self) -> None:
        self.num_teaches += 1

    def ask(self, *counts: int | None) -> list[Measurement]:
        """Return the measurements of the first sequences of the plan, asked one after the other."""
        return [self.answer(Question(PLAN, "search", count)) for count in counts]

    def answer(self, question: Question) -> Measurement:
        """Return the measurement that answers a question."""
        found: list[Measurement] = []

        def ended(_: int, answer: Answer) -> None:
            assert answer.measurement is not None
            found.append(answer.measurement)
            if answer.news is not None:
                self.store.put_measurement(answer.news)

        self.answerer.answer([question], ended)
        return found[0]

    @property
    def parts(self) -> list[tuple[int, int | None]]:
        """Return (first, number) of what was measured."""
        return [(t.first_sequence, t.num_sequences) for t in self.executor.evaluated]


def whole(count: int | None = None) -> Measurement:
    return measure(Evaluate(TOKENS, PLAN, "search", count))


@pytest.mark.parametrize("is_new_job", [False, True])
def test_only_the_rest_is_paid(tmp_path: Path, is_new_job: bool) -> None:  # noqa: FBT001
    """8, then 16, then all: each sequence is measured once, and each answer is that of one measurement."""
    bench = Bench(tmp_path)
    found = []
    for count in (8, 16, None):
        found += bench.ask(count)
        if is_new_job:
            bench.again()
    assert bench.parts == [(0, 8), (8, 8), (16, None)]
    for measured, expected in zip(found, (whole(8), whole(16), whole()), strict=True):
        assert (measured.kl_divergence, measured.sequence_kl) == (expected.kl_divergence, expected.sequence_kl)
        assert measured.num_tokens == expected.num_tokens
        assert measured.perplexity == pytest.approx(expected.perplexity, rel=1e-12)
    assert sum(m.token_forwards for m in found) == whole().token_forwards


def test_known_answers_cost_nothing(tmp_path: Path) -> None:
    """Asked again, also by another job, the answer is the same and free, and no worker is made ready."""
    bench = Bench(tmp_path)
    (first,) = bench.ask(8)
    bench.again()
    (second,) = bench.ask(8)
    assert second == first.free
    assert (second.token_forwards, len(bench.executor.evaluated), bench.num_teaches) == (0.0, 1, 1)


@pytest.mark.parametrize("count", [2, 6, 7])
def test_odd_starts_are_measured_afresh(tmp_path: Path, count: int) -> None:
    """Workers measure four sequences together: another start would round differently."""
    bench = Bench(tmp_path)
    bench.ask(count, 16)
    assert bench.parts == [(0, count), (0, 16)]


def test_the_longest_start_is_continued(tmp_path: Path) -> None:
    """Of several known starts."""
    bench = Bench(tmp_path)
    bench.ask(4, 12, None)
    assert bench.parts == [(0, 4), (4, 8), (12, None)]


def test_as_many_as_there_are_is_all(tmp_path: Path) -> None:
    """A part that covers a short text is the whole of it."""
    bench = Bench(tmp_path, num_search=6)
    assert bench.ask(12)[0].free == bench.ask(None)[0] == bench.ask(6)[0]
    assert bench.parts == [(0, None)]


def test_joined_measurements() -> None:
    """The cost is the second's; the order is that of the text."""
    first, second = whole(8), replace(measure(Evaluate(TOKENS, PLAN, "search", 4, 8)), seconds=2.0)
    joined = Measurement.joined(first, second)
    assert joined.sequence_kl == first.sequence_kl + second.sequence_kl
    assert joined.kl_divergence == sum(joined.sequence_kl) / 12
    assert (joined.token_forwards, joined.seconds) == (second.token_forwards, 2.0)


def test_the_step_is_that_of_the_workers() -> None:
    """Both know how many sequences are measured together."""
    from workers.tasks import BATCH

    assert RACE_STEP % BATCH == 0


def test_text_without_a_file_has_what_was_asked() -> None:
    """Its length is not known then."""
    assert count_sequences(TOKENS, "search", 32) == 32


def test_a_probe_is_answered_with_its_sketch(tmp_path: Path) -> None:
    """It is measured whole where its start has no sketch; then it is known, sketch and all."""
    bench = Bench(tmp_path)
    bench.ask(8)
    first = bench.answer(PROBE)
    bench.again()
    second = bench.answer(PROBE)
    assert bench.parts == [(0, 8), (0, 16)]
    assert second == first.free
    for found in (first, second):
        assert found.sketch is not None
        assert np.array_equal(found.sketch, sketch(PLAN, 16))


def test_a_probe_is_continued(tmp_path: Path) -> None:
    """On more text, also by another job; the sketch is that of one measurement, and it is kept."""
    bench = Bench(tmp_path)
    bench.answer(question_of(Proposal(PLAN, SENSITIVITY, 8, PLAN)))
    bench.again()
    found = bench.answer(PROBE)
    assert bench.parts == [(0, 8), (8, 8)]
    assert found.sequence_kl == whole(16).sequence_kl
    assert found.sketch is not None
    assert np.array_equal(found.sketch, sketch(PLAN, 16))
    bench.again()
    assert bench.answer(PROBE) == found.free


def test_a_probe_answers_for_a_plan_and_not_the_other_way(tmp_path: Path) -> None:
    """A plan that was measured without a sketch is measured again as a probe; a probe is the start of a plan."""
    bench = Bench(tmp_path)
    bench.ask(16)
    bench.answer(PROBE)
    bench.ask(16, None)
    assert bench.parts == [(0, 16), (0, 16), (16, None)]


@pytest.mark.parametrize("damage", [lambda data: data[:20], lambda _: b"", lambda _: None])
def test_a_lost_sketch_is_measured_again(tmp_path: Path, damage: Callable[[bytes], bytes | None]) -> None:
    """Sketches are a cache beside the records: one that is gone or no longer whole costs its probe once more."""
    bench = Bench(tmp_path)
    bench.answer(PROBE)
    (path,) = tmp_path.rglob("*.npy")
    damaged = damage(path.read_bytes())
    if damaged is None:
        path.unlink()
    else:
        path.write_bytes(damaged)
    bench.again()
    found = bench.answer(PROBE).sketch
    assert found is not None
    assert np.array_equal(found, sketch(PLAN, 16))
    bench.answer(PROBE)
    assert len(bench.parts) == 2
    assert [p for p in tmp_path.rglob("*") if p.is_file()] == [path]
