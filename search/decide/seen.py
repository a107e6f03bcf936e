"""What a search has seen, sorted as its steps ask for it."""

from bisect import bisect_right

from search.decide.observation import SCREEN, Observation
from space.menu import SearchSpace
from space.plan import Plan


class Evidence:
    """Everything measured so far, of plans of one space: all of them name the modules in the space's order.

    So plans are their own keys; a digest takes three times as long as a hash.

    Attributes:
        origins: the steps that have proposed anything.
        points: the operating points, in the order of probing.
        wide_alone: the first measurement of the nearly lossless plan that is no probe.

    """

    def __init__(self, space: SearchSpace, wide: Plan) -> None:
        """Know nothing; `wide` is the nearly lossless plan that the first probes start from."""
        self._space, self._wide = space, wide
        self.origins: set[str] = set()
        self.points: list[Plan] = []
        self.wide_alone: Observation | None = None
        self._probes: dict[str, dict[Plan, Observation]] = {}
        self._best = _Staircase()
        self._whole: set[Plan] = set()
        self._screened: set[Plan] = set()

    def add(self, observed: Observation) -> None:
        """Take one more observation."""
        self.origins.add(observed.origin)
        if observed.base is not None:
            self._add_probe(observed, observed.base)
            return
        if self.wide_alone is None and observed.plan == self._wide:
            self.wide_alone = observed
        if observed.origin == SCREEN:
            self._screened.add(observed.plan)
            return
        size = observed.weight_bytes
        self._whole.add(observed.plan)
        self._best.add(self._space.weight_bytes(observed.plan) if size is None else size, observed)

    def _add_probe(self, observed: Observation, base: Plan) -> None:
        probes = self._probes.setdefault(base.digest, {})
        if not probes and base.digest != self._wide.digest:
            self.points.append(base)
        before = probes.get(observed.plan)
        if before is None or _tells(before) < _tells(observed):
            probes[observed.plan] = observed

    @property
    def has_probes(self) -> bool:
        """Tell whether any neighbour of the nearly lossless plan was measured."""
        return self._wide.digest in self._probes

    def probes_of(self, base: Plan) -> list[Observation]:
        """Return a plan's neighbours, each as measured on most text; itself included where it was measured as one."""
        return list(self._probes.get(base.digest, {}).values())

    def is_measured(self, plan: Plan) -> bool:
        """Tell whether a plan was measured on the whole text."""
        return plan in self._whole

    def is_screened(self, plan: Plan) -> bool:
        """Tell whether a plan was measured on the whole text or screened."""
        return plan in self._whole or plan in self._screened

    def best_within(self, size: int) -> Observation | None:
        """Return the best plan of at most so many weight bytes that was measured on the whole text."""
        return self._best.within(size)


class _Staircase:
    """The best observation up to every size; of equal losses the one whose plan has the lesser digest."""

    def __init__(self) -> None:
        self._sizes: list[int] = []
        self._best: list[Observation] = []

    def within(self, size: int) -> Observation | None:
        count = bisect_right(self._sizes, size)
        return self._best[count - 1] if count else None

    def add(self, size: int, observed: Observation) -> None:
        end = bisect_right(self._sizes, size)
        if end and not _is_better(observed, self._best[end - 1]):
            return
        start = end - 1 if end and self._sizes[end - 1] == size else end
        while end < len(self._best) and not _is_better(self._best[end], observed):
            end += 1
        self._sizes[start:end], self._best[start:end] = [size], [observed]


def _is_better(one: Observation, other: Observation) -> bool:
    kl, other_kl = one.kl_divergence, other.kl_divergence
    return one.plan.digest < other.plan.digest if kl == other_kl else kl < other_kl


def _tells(probe: Observation) -> tuple[bool, int]:
    """Return how much a probe tells: one whose sketch is lost tells less than any other."""
    return probe.sketch is not None, len(probe.sequence_kl)
