"""How much a job may measure, and about what that costs."""

from search.decide.steps import PLAN_TRIALS, FrontStrategy
from space.spec import JobSpec

_BASELINE_TRIALS = 200  # of the samplers that have no plan of their own
_TYPICAL_PLANS = 70  # measured on the whole text by a default search
_REUSE = 0.6  # of a probe's blocks are run, on average: those before its module are its base's


def max_trials(spec: JobSpec, num_items: int) -> int:
    """Return the most trials to measure: as asked, or what lets every step of the search run on so many items."""
    if spec.max_trials is not None:
        return spec.max_trials
    if spec.sampler != "front":
        return _BASELINE_TRIALS
    return 2 * num_items + _neighbour_trials(num_items) + PLAN_TRIALS


def expected_sequences(spec: JobSpec, num_items: int) -> float:
    """Return about how many whole forwards of one sequence the search takes, on the search text."""
    trials, whole = max_trials(spec, num_items), spec.num_search_samples
    if spec.sampler != "front":
        return trials * whole
    plans = min(trials, _TYPICAL_PLANS)
    probes = min(2 * num_items, trials - plans)
    neighbours = min(_neighbour_trials(num_items), trials - plans - probes)
    return whole * (plans + _REUSE * (probes + neighbours) / 4)


def _neighbour_trials(num_items: int) -> int:
    """Return the most measurements of operating points' neighbours: each of a quarter of the text."""
    return 2 * num_items * FrontStrategy.num_points * 3 // 2  # half of them are continued to half of the text
