"""The phases of a job in the order of its work, and about how long each takes: for estimates and forecasts."""

from search.decide.trial_limits import expected_sequences
from search.request.prepare import Prepared
from space.codings.coding_table import CODINGS
from space.spec import JobSpec

TEXT, CALIBRATE, LEVELS, SEARCH, JUDGE = PHASES = ("text", "calibrate", "levels", "search", "judge")
_FLOPS_PER_CORE = 4e10  # float32 forward of a small model, one thread
_LEVEL_SECONDS_PER_VALUE = 2.4e-5  # all levels of the default menu, and what little others take
_START_SECONDS = 20.0  # workers and their imports
_CONTENDERS = 24  # plans of the search that are judged on all held-out text
_WARM_PLANS = 12  # measured by a job that starts from what earlier ones know


def expected_seconds(spec: JobSpec, prepared: Prepared) -> dict[str, float]:
    """Return phase -> seconds with the asked workers, where nothing is known yet."""
    uniform, texts = len(prepared.space.uniform_levels), spec.num_search_samples + spec.num_held_out_samples
    levels = _LEVEL_SECONDS_PER_VALUE * prepared.inventory.num_parameters + _long_searches(prepared)
    return {
        TEXT: _START_SECONDS,
        CALIBRATE: forward_seconds(spec, prepared, spec.num_samples + texts),
        LEVELS: levels / spec.workers,
        SEARCH: forward_seconds(spec, prepared, expected_sequences(spec, len(prepared.space.items))),
        JUDGE: forward_seconds(spec, prepared, (uniform + _CONTENDERS) * spec.num_held_out_samples),
    }


def _long_searches(prepared: Prepared) -> float:
    """Return the core seconds of levels whose codings search long for each value."""
    return sum(
        module.out_features * module.in_features * CODINGS[level.coding].seconds_per_value.get(level.bits or 0, 0.0)
        for module in prepared.inventory.modules
        for level in prepared.space.sizes[module.name]
    )


def warm_search_seconds(spec: JobSpec, prepared: Prepared) -> float:
    """Return about how long the search of a job takes that starts from what earlier ones know."""
    return forward_seconds(spec, prepared, _WARM_PLANS * spec.num_search_samples)


def forward_seconds(spec: JobSpec, prepared: Prepared, num_sequences: float) -> float:
    """Return about how long forwards of whole sequences take with the asked workers."""
    tokens = spec.sequence_length * num_sequences
    return 2 * prepared.inventory.num_parameters * tokens / _FLOPS_PER_CORE / spec.workers


def search_share(spec: JobSpec, expected_tokens: float, spent_tokens: float, trials_left: int | None) -> float:
    """Return how much of its search a job has done, 0 to 1.

    Args:
        spec: the request.
        expected_tokens: token-forwards that the whole search was expected to take.
        spent_tokens: those that it took so far.
        trials_left: until the limit that was asked for; None without one.

    """
    left = max(expected_tokens - spent_tokens, expected_tokens / 20)  # it goes on for as long as it goes on
    if trials_left is not None:
        left = min(left, trials_left * spec.num_search_samples * spec.sequence_length)
    return spent_tokens / (spent_tokens + left) if spent_tokens + left > 0 else 1.0
