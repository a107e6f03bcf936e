"""Which strategy a job's limits allow: all steps of the search, or a coarse one on prices from a gradient pass."""

from dataclasses import fields, replace

from search.decide.coarse import CoarseStrategy
from search.decide.steps import MAX_GUARDS, PROBE_BITS, FrontStrategy
from search.decide.trial_limits import max_trials
from search.job.context import Context
from search.job.stopping import StopRule
from search.job.text_and_levels import TextAndLevels
from storage.job_facts import JobFacts
from workers.tasks import PRICE_FORWARDS, ModulePrices
from workers.text.tokens import TokenSet

_AMPLE = 2  # so many times as many trials as all steps take: minutes are a guess
_TRIAL_SHARE = 0.6  # of a plan on the whole text: what a trial of a coarse search takes, probes among them


def choose_strategy(
    whole: FrontStrategy, context: Context, ground: TextAndLevels, tokens: TokenSet, stop: StopRule
) -> FrontStrategy:
    """Return the strategy that makes the best of a job's limits; the choice is told where it is a coarse search.

    Args:
        whole: the strategy that takes all steps.
        context: the job.
        ground: asks for the gradient pass.
        tokens: the text.
        stop: knows how much time is left.

    """
    spec, needed = context.spec, trials_of_all_steps(whole)
    if spec.sampler != "front":
        return whole
    found = ground.known_prices(tokens, whole.num_sequences)
    if whole.warm:
        return whole if found is None else replace(whole, prices=dict(found.prices))
    found = found or ground.make_prices(tokens, whole.num_sequences)
    whole = replace(whole, prices=dict(found.prices))
    limit = context.max_trials if spec.max_minutes is None else _in_time(context, found, stop)
    is_coarse = limit < (needed if spec.max_minutes is None else _AMPLE * needed)
    if found.reason is not None:
        instead = "errors of levels are their prices" if is_coarse else "prices come from probes alone"
        context.note(f"this model has no gradients ({found.reason}): {instead}")
    if not is_coarse:
        return whole
    context.note(f"{limit} trials do not allow all steps of a search (about {needed}): they go where they decide")
    return CoarseStrategy(**{f.name: getattr(whole, f.name) for f in fields(FrontStrategy)}, max_trials=limit)


def trials_of_all_steps(strategy: FrontStrategy) -> int:
    """Return about the fewest trials that let every step run up to the budget's operating point."""
    others = [len(strategy.space.levels[item]) - 1 for item in strategy.space.items]
    guards = sum(1 for _ in strategy.space.uniform_plans()) + MAX_GUARDS
    probes, neighbours = (sum(min(most, count) for count in others) for most in (len(PROBE_BITS), 2))
    return guards + probes + len(strategy.sizes) + 1 + neighbours


def coarse_advice(strategy: FrontStrategy, context: Context, num_trials: int) -> str | None:
    """Return what a limit has cost a search, and how it goes on; None for one that took all steps."""
    if not isinstance(strategy, CoarseStrategy):
        return None
    unlimited = max_trials(context.spec.model_copy(update={"max_trials": None}), len(strategy.space.items))
    return (
        f"{num_trials} of up to {unlimited} trials: a coarse search. Submitting it again with --refine and without the "
        "limit goes on from what is known."
    )


def _in_time(context: Context, found: ModulePrices, stop: StopRule) -> int:
    """Return how many trials the minutes allow, about; what a job that is resumed took them to allow when it began."""
    known = context.facts().expected_trials
    if known is None:
        plan_seconds = found.seconds / PRICE_FORWARDS
        known = (
            int(max(0.0, stop.seconds_left) * context.spec.workers / (plan_seconds * _TRIAL_SHARE))
            if plan_seconds
            else 0
        )
        known = max(1, min(known, context.max_trials))
        context.store.update_job(context.job_id, facts=JobFacts(expected_trials=known))
    return known
