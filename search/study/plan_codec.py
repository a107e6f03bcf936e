"""Plans as Optuna's parameters and back: one integer per free item, the index of its level in the space, by bytes.

An item is a module, or all modules that the target ties to one level.
"""

import warnings
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, cast

import optuna
from optuna.distributions import BaseDistribution, IntDistribution
from optuna.trial import FrozenTrial, TrialState

from search.decide.observation import Proposal
from space.menu import SearchSpace
from space.plan import Choice, Plan

ORIGIN, BUDGET = "origin", "budget"


class SharedIndex(IntDistribution):
    """An index of levels; never changed, so never copied: Optuna copies all of a trial's when it is asked and told."""

    def __copy__(self) -> "SharedIndex":
        return self

    def __deepcopy__(self, memo: dict[int, Any]) -> "SharedIndex":
        return self


class _Shared(dict[str, BaseDistribution]):
    """Distributions that all trials of a study share: Optuna copies those of each added trial, 100 KB of them."""

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Shared":
        return self


class _Params(Mapping[str, int]):
    """A plan's parameters in a fifth of the space of a dict; never changed, so never copied."""

    def __init__(self, positions: Mapping[str, int], values: tuple[int, ...]) -> None:
        self._positions, self._values = positions, values

    def __getitem__(self, name: str) -> int:
        return self._values[self._positions[name]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._positions)

    def __len__(self) -> int:
        return len(self._positions)

    def __deepcopy__(self, memo: dict[int, Any]) -> "_Params":
        return self


class PlanCodec:
    """Translates plans to Optuna's parameters and trials, and back; plans name the modules in the space's order."""

    def __init__(self, space: SearchSpace, distribution: type[IntDistribution] = IntDistribution) -> None:
        """Remember the space; Optuna takes parameters of one kind of `distribution` only in a study."""
        self._space = space
        free = [item for item in space.items if len(space.levels[item]) > 1]
        is_free = set(free)
        self._index: Mapping[Choice, int | None] = {  # None: no parameter of its own
            (name, level): i if name in is_free else None
            for name, levels in space.levels.items()
            for i, level in enumerate(levels)
        }
        self._positions = {name: position for position, name in enumerate(free)}
        self.distributions: dict[str, BaseDistribution] = _Shared(
            {name: distribution(0, len(space.levels[name]) - 1) for name in free}
        )

    def params(self, plan: Plan) -> dict[str, int]:
        """Return the parameters of a plan."""
        return dict(self._params(plan))

    def plan(self, params: Mapping[str, Any]) -> Plan:
        """Return the plan of parameters; items with one level need none."""
        levels = self._space.levels
        return self._space.plan_of((item, levels[item][int(params.get(item, 0))]) for item in self._space.items)

    def trial(
        self,
        proposal: Proposal,
        state: TrialState,
        *,
        excess_bytes: int,
        values: Sequence[float] | None = None,
        system_attrs: Mapping[str, Any] | None = None,
    ) -> FrozenTrial:
        """Return a proposal's trial, for `Study.add_trial`; `excess_bytes` are those beyond the budget."""
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            trial = optuna.trial.create_trial(
                state=state,
                values=values,
                user_attrs={ORIGIN: proposal.origin},
                system_attrs=dict(system_attrs or {}),
                constraints={BUDGET: excess_bytes},
            )
        trial.params = cast("dict[str, Any]", self._params(proposal.plan))  # Optuna only reads those of such a trial
        trial.distributions = self.distributions
        return trial

    def _params(self, plan: Plan) -> "_Params":
        values = tuple(i for i in map(self._index.__getitem__, plan.levels) if i is not None)
        return _Params(self._positions, values)
