"""Why each module of a plan has its level, from the additive model that the search ended with.

At the plan's size a byte has a price: the gain of the last step that the Lagrangian sweep could still pay for. A level
is right where going down would save bytes too dearly and going up would buy too little for its bytes, at that price.
Modules that the target ties to one level move together: each has its own share of the loss, and their common moves.
"""

from collections.abc import Mapping, Sequence
from itertools import pairwise

from search.decide.additive_model import AdditiveModel
from search.decide.knapsack import Option, lower_hull, undominated
from space.cost import module_bytes
from space.errors import NotFoundError
from space.inventory import Inventory, ModuleInfo
from space.level import Level, parse_level
from space.plan import Plan
from space.question import QUESTIONS
from space.results.explanation import Explanation, Move, Reason, format_times
from space.targets.target_table import items_of_model
from storage.job_facts import JobFacts, KeptLosses


def losses_from_facts(facts: JobFacts) -> AdditiveModel | None:
    """Return the model that a job kept, or None where it kept none."""
    if facts.model is None or not facts.model.losses:
        return None
    losses = facts.model.losses.items()
    return AdditiveModel({name: {parse_level(text): float(kl) for text, kl in of.items()} for name, of in losses})


def kept_losses(model: AdditiveModel) -> KeptLosses:
    """Return a model as a job keeps it."""
    return KeptLosses({name: {str(level): kl for level, kl in of.items()} for name, of in model.losses.items()})


def explain(
    inventory: Inventory, target: str, model: AdditiveModel, plan: Plan, point: str, kl_divergence: float
) -> Explanation:
    """Return why each module of a measured plan has its level, the largest share of the loss first.

    Predictions are scaled so that the modules' shares add up to the measured KL divergence.

    Args:
        inventory: the model that is compressed.
        target: the container that bytes are counted for.
        model: module name -> level -> predicted KL; levels that it does not know are not considered.
        plan: module name -> level.
        point: name of the point that has this plan.
        kl_divergence: as measured.

    Raises:
        NotFoundError: the model does not know a level of the plan.

    """
    _check(model, plan, point)
    predicted = model.predict(plan)
    scale = kl_divergence / predicted if predicted > 0 and kl_divergence > 0 else 1.0
    alone = {m.name: _choices(m, target, model.losses[m.name], scale) for m in inventory.sites}
    own = {m.name: next(c for c in alone[m.name] if c.level == plan[m.name]) for m in inventory.sites}
    total, size = sum(c.loss for c in own.values()), sum(c.size_bytes for c in own.values())
    items = items_of_model(inventory, target)
    together = {item: _together([alone[name] for name in names]) for item, names in items.items()}
    useful = {item: undominated(choices) for item, choices in together.items()}
    rate = going_rate(list(useful.values()), size)
    reasons = []
    for item, names in items.items():
        current = next(c for c in together[item] if c.level == plan[item])
        for name in names:
            others = [other for other in names if other != name]
            reasons.append(_reason(inventory.module(name), own[name], current, useful[item], total, rate, others))
    place = {module.name: i for i, module in enumerate(inventory.sites)}
    reasons.sort(key=lambda r: (-r.kl_share, place[r.module]))
    return Explanation(point, kl_divergence, predicted, rate, tuple(reasons), QUESTIONS[inventory.family].metric)


def going_rate(modules: Sequence[Sequence[Option]], size_bytes: int) -> float:
    """Return the KL per byte at which the best additive plan of a size stops paying for more bytes."""
    hulls = [lower_hull(choices) for choices in modules]
    steps = [
        ((before.loss - after.loss) / (after.size_bytes - before.size_bytes), after.size_bytes - before.size_bytes)
        for hull in hulls
        for before, after in pairwise(hull)
    ]
    left, rate = size_bytes - sum(hull[0].size_bytes for hull in hulls), 0.0
    for rate, extra in sorted(steps, reverse=True):  # noqa: B007 (the last one paid for, in part, is the answer)
        left -= extra
        if left < 0:
            break
    return rate


def _check(model: AdditiveModel, plan: Plan, point: str) -> None:
    for name, level in plan.levels:
        if level not in model.losses.get(name, {}):
            raise NotFoundError(
                f"Point {point} gives {name} the level {level}, which the search did not price: it cannot be explained."
            )


def _choices(module: ModuleInfo, target: str, losses: Mapping[Level, float], scale: float) -> list[Option]:
    return [Option(level, module_bytes(module, level, target), scale * kl) for level, kl in losses.items()]


def _together(of_modules: Sequence[Sequence[Option]]) -> list[Option]:
    """Return the options that all modules of an item have, each with the bytes and the loss of all."""
    if len(of_modules) == 1:
        return list(of_modules[0])
    by_level = [{option.level: option for option in options} for options in of_modules]
    return [
        Option(level, sum(o[level].size_bytes for o in by_level), sum(o[level].loss for o in by_level))
        for level in by_level[0]
        if all(level in options for options in by_level)
    ]


def _reason(
    module: ModuleInfo,
    own: Option,
    current: Option,
    useful: Sequence[Option],
    total: float,
    rate: float,
    others: Sequence[str],
) -> Reason:
    above = [c for c in useful if c.size_bytes > current.size_bytes and c.loss < current.loss]
    below = [c for c in useful if c.size_bytes < current.size_bytes]
    up = _move(current, above[0]) if above else None
    down = _move(current, below[-1]) if below else None
    return Reason(
        module=module.name,
        level=str(own.level),
        kl_share=own.loss / total if total > 0 else 0.0,
        kl_divergence=own.loss,
        size_bytes=own.size_bytes,
        saved_bytes=module.weight.size_bytes - own.size_bytes,
        up=up,
        down=down,
        why=_why(current, up, down, rate, others),
    )


def _move(current: Option, other: Option) -> Move:
    return Move(str(other.level), other.size_bytes - current.size_bytes, other.loss - current.loss)


def _why(current: Option, up: Move | None, down: Move | None, rate: float, others: Sequence[str]) -> str:
    """Return the reason in one sentence: what is next to this level, and why that is not better."""
    tied = f" with {' and '.join(others)}, as the target has them at one level" if others else ""
    if up is None and down is None:
        return f"{current.level} is its only useful level{tied}"
    told = []
    if down is not None:
        cost = f"costs {_against(down, rate)}" if down.kl_change > 0 else "is predicted to cost nothing"
        told.append(f"going down to {down.level} saves {-down.bytes_change:,} bytes and {cost}")
    if up is not None:
        told.append(f"going up to {up.level} takes {up.bytes_change:,} bytes and gains {_against(up, rate)}")
    if down is not None and down.rate < rate:
        told.append("by price alone it would go down")
    elif up is not None and up.rate > rate:
        told.append("by price alone it would go up")
    return f"kept at {current.level}{tied}: " + "; ".join(told)


def _against(move: Move, rate: float) -> str:
    amount = f"{abs(move.kl_change):.2g} KL"
    return f"{amount}, {format_times(move.rate, rate)} the going rate" if rate > 0 else amount
