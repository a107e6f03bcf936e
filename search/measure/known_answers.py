"""Known answers: what any job measured about a model and a text, found again by its key.

A measurement of the first sequences of a text is the start of one of more sequences: racing pays only for the rest.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from search.decide.observation import RACE_STEP, Proposal
from search.measure.answer_keys import evaluation_digest
from search.measure.sketches import SketchBook
from space.measurement import Measurement
from space.plan import Plan
from storage.records import Asking, Known
from storage.store import Store
from workers.compress.versions import every_version, version_of_texts
from workers.tasks import Evaluate
from workers.text.text_sources import Split
from workers.text.tokens import TokenSet

Part = tuple[Split, int | None]
"""A split and how many of its first sequences; None is all."""


@dataclass(frozen=True, slots=True)
class Question:
    """A plan to measure on a part of a text, and who asks."""

    plan: Plan
    split: Split
    num_sequences: int | None = None
    asking: Asking | None = None

    @property
    def wants_sketch(self) -> bool:
        """Tell whether the answer is a probe's: how the plan changes the answers is part of it."""
        return self.asking is not None and self.asking.base is not None


def question_of(proposal: Proposal) -> Question:
    """Return the question that a proposal asks on the search text."""
    return Question(proposal.plan, "search", proposal.num_sequences, Asking(proposal.origin, proposal.base))


class KnownAnswers:
    """Known measurements of one model on one text."""

    def __init__(
        self, store: Store, model_digest: str, tokens: TokenSet, counts: Mapping[Split, int], sketches: SketchBook
    ) -> None:
        """Read everything that is known.

        Args:
            store: where it is.
            model_digest: of the model as it is computed.
            tokens: the text.
            counts: sequences of the splits that are measured on.
            sketches: where those of probes are.

        """
        self._store, self._tokens, self._counts = store, tokens, counts
        self._sketches = sketches
        parts: list[Part] = [(split, n) for split, count in counts.items() for n in (None, *range(1, count))]
        self._digests = {
            (part, version): evaluation_digest(model_digest, tokens, *part, version)
            for part in parts
            for version in every_version()
        }
        key_of = {name: key for key, name in self._digests.items()}
        self._known: dict[Part, dict[str, Known]] = {part: {} for part in parts}
        for known in store.list_measurements(list(key_of)):
            part, version = key_of[known.evaluation_digest]
            if version == version_of_texts(known.plan.texts):  # else its levels are others by now
                self._known[part][known.plan.digest] = known

    def count(self, split: Split) -> int:
        """Return the number of sequences of a split."""
        return self._counts[split]

    def parts(self, split: Split) -> Sequence[tuple[int | None, Sequence[Known]]]:
        """Return (number of sequences, all that is known of them) of a split."""
        return [(n, list(found.values())) for (s, n), found in self._known.items() if s == split]

    def whole(self, split: Split) -> Mapping[str, Known]:
        """Return plan digest -> what is known of a whole split."""
        return self._known[split, None]

    def find(self, questions: Sequence[Question]) -> list[Measurement | None]:
        """Return the known answers, as ones that cost nothing again; a probe's is known where its sketch is too."""
        found = self._store.find_measurements([(q.plan, self._digest(q.plan, self._part(q))) for q in questions])
        return [known and self._with_sketch(q, known.free) for q, known in zip(questions, found, strict=True)]

    def _with_sketch(self, question: Question, known: Measurement) -> Measurement | None:
        if not question.wants_sketch:
            return known
        sketch = self.sketch(question)
        return None if sketch is None else replace(known, sketch=sketch)

    def sketch(self, question: Question) -> np.ndarray | None:
        """Return a probe's sketch, where it is kept."""
        return self._sketches.get(question.plan, self._digest(question.plan, self._part(question)))

    def task(self, question: Question) -> tuple[Evaluate, Measurement | None]:
        """Return what must be measured for an answer, and the known start that it continues."""
        split, count = self._part(question)
        start = self._longest_start(question)
        first = 0 if start is None else len(start.sequence_kl)
        rest = None if count is None else count - first
        return Evaluate(self._tokens, question.plan, split, rest, first, sketch=question.wants_sketch), start

    def keep_sketch(self, question: Question, measurement: Measurement) -> None:
        """Keep an answer's sketch, if it has one; it is found once the answer is remembered too."""
        if measurement.sketch is not None:
            self._sketches.put(question.plan, self._digest(question.plan, self._part(question)), measurement.sketch)

    def known(self, question: Question, measurement: Measurement) -> Known:
        """Return an answer as all jobs find it, once it is recorded."""
        record = replace(measurement, sketch=None)
        return Known(question.plan, self._digest(question.plan, self._part(question)), record, question.asking)

    def learn(self, question: Question, known: Known) -> None:
        """Take a recorded answer."""
        self._known.setdefault(self._part(question), {}).setdefault(known.plan.digest, known)

    def _part(self, question: Question) -> Part:
        count = question.num_sequences
        is_whole = count is None or count >= self._counts[question.split]
        return question.split, None if is_whole else count

    def _digest(self, plan: Plan, part: Part) -> str:
        return self._digests[part, version_of_texts(plan.texts)]

    def _longest_start(self, question: Question) -> Measurement | None:
        """Return the longest known start; it ends where workers begin a new batch, so that it rounds alike."""
        split, count = self._part(question)
        limit = self._counts[split] if count is None else count
        starts = [n for s, n in self._known if s == split and n is not None and n < limit and n % RACE_STEP == 0]
        for n in sorted(starts, reverse=True):
            known = self._known[split, n].get(question.plan.digest)
            if known is None or len(known.measurement.sequence_kl) != n:
                continue
            if not question.wants_sketch:
                return known.measurement
            if (sketch := self._sketches.get(question.plan, self._digest(question.plan, (split, n)))) is not None:
                return replace(known.measurement, sketch=sketch)
        return None
