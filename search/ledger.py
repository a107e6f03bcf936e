"""The Optuna study of a job: asked in batches, told in order, rebuilt from our own records.

Optuna keeps no database here: our store is the truth, and the study is replayed from it, system attributes included
(without them NSGA-II would start again at generation zero).
"""

import json
import warnings
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import optuna
from optuna.trial import TrialState as OptunaState

from search.observation import UNIFORM, Observation, Proposal
from search.sampler import BASELINE_BATCH, ORIGIN, FrontSampler, PlanCodec
from space.measurement import Measurement
from space.menu import SearchSpace
from space.plan import Plan
from storage.records import Trial, TrialState

_BUDGET = "budget"
_ATTRS = "system_attrs"
_GENERATION = "NSGAIISampler:generation"  # Optuna's own key in a trial's system attributes
MakeSampler = Callable[[int, Sequence[Observation]], optuna.samplers.BaseSampler]
"""number of trials so far, what they observed -> the sampler of the next batch"""
FindSketch = Callable[[Proposal], np.ndarray | None]
"""probe -> its sketch, where it is kept"""


@dataclass(frozen=True, slots=True)
class Asked:
    """A trial that the sampler asked for."""

    number: int
    proposal: Proposal


class Ledger:
    """Ask for batches of plans, tell results; the only holder of the study."""

    def __init__(
        self,
        make: MakeSampler,
        codec: PlanCodec,
        space: SearchSpace,
        budget: int,
        find_sketch: FindSketch = lambda _: None,
    ) -> None:
        """Make an empty study of two objectives: weight bytes and KL divergence."""
        optuna.logging.set_verbosity(optuna.logging.ERROR)
        self._make, self._codec, self._space, self._budget = make, codec, space, budget
        self._find_sketch = find_sketch
        self.observations: list[Observation] = []
        self._sampler = make(0, self.observations)
        self.study = optuna.create_study(
            storage=optuna.storages.InMemoryStorage(), sampler=self._sampler, directions=["minimize", "minimize"]
        )
        self._open: dict[int, optuna.Trial] = {}
        self._bases: dict[str, Plan] = {}

    def replay(self, trials: Sequence[Trial]) -> list[Asked]:
        """Rebuild the study from records; return the trials that were asked but have no end yet."""
        for trial in trials:
            self.study.add_trial(self._frozen(trial))
            if trial.state is TrialState.COMPLETE and trial.measurement is not None:
                self._observe(self._proposal_of(trial), trial.measurement)
        waiting = [t for t in trials if not t.state.is_finished]
        asked = []
        for trial in waiting:
            open_trial = self.study.ask(self._codec.distributions)
            assert open_trial.number == trial.number  # noqa: S101 (records are in the order of asking)
            self._open[trial.number] = open_trial
            asked.append(Asked(trial.number, self._proposal_of(trial)))
        self._choose_parents()
        return asked

    def ask(self, limit: int) -> list[Asked]:
        """Return the next batch, at most `limit` plans; empty when the sampler has nothing left."""
        if limit <= 0:
            return []
        num_trials = len(self.study.get_trials(deepcopy=False))
        if num_trials == 0:
            self._enqueue_uniform()
        count = self._waiting()
        if count == 0:  # a new batch: its sampler remembers nothing but the study, as after a replay
            self._sampler = self.study.sampler = self._make(num_trials, self.observations)
            count = self._batch_size()
        return [self._ask_one() for _ in range(min(count, limit))]

    def tell(self, asked: Asked, size_bytes: int, measurement: Measurement | None) -> None:
        """Tell a result; None is a failed or refused trial."""
        trial = self._open.pop(asked.number)
        trial.set_constraint(_BUDGET, size_bytes - self._budget)
        if measurement is None:
            self.study.tell(trial, state=OptunaState.FAIL)
        else:
            self.study.tell(trial, [size_bytes, measurement.kl_divergence])
            self._observe(asked.proposal, measurement)

    def sampler_state(self, asked: Asked) -> dict[str, Any]:
        """Return what must be recorded with a trial for its replay, as JSON."""
        attrs = dict(self.study.get_trials(deepcopy=False)[asked.number].system_attrs)
        base = asked.proposal.base
        return {
            "num_sequences": asked.proposal.num_sequences,
            "base": base.to_json() if base else None,
            _ATTRS: json.loads(json.dumps(attrs)),
        }

    def model_json(self) -> dict[str, Any] | None:
        """Return what was learnt about each module, as a job keeps it; None where the sampler learns no such thing."""
        return self._sampler.model_json() if isinstance(self._sampler, FrontSampler) else None

    def _observe(self, proposal: Proposal, measurement: Measurement) -> None:
        sketch = measurement.sketch
        if sketch is None and proposal.base is not None:
            sketch = self._find_sketch(proposal)
        seen = Observation(proposal.plan, proposal.origin, measurement.sequence_kl, proposal.base, sketch)
        self.observations.append(seen)

    def _choose_parents(self) -> None:
        """Have NSGA-II choose every generation's parents again: it orders them differently the first time it does."""
        if isinstance(self._sampler, optuna.samplers.NSGAIISampler):
            generations = [t.system_attrs.get(_GENERATION, 0) for t in self.study.get_trials(deepcopy=False)]
            for generation in range(1, max(generations, default=0) + 1):
                self._sampler.get_parent_population(self.study, generation)

    def _enqueue_uniform(self) -> None:
        for _, plan in self._space.uniform_plans():
            if not isinstance(self._sampler, FrontSampler):
                self.study.enqueue_trial(self._codec.params(plan), user_attrs={ORIGIN: UNIFORM}, skip_if_exists=True)

    def _waiting(self) -> int:
        return len(self.study.get_trials(deepcopy=False, states=(OptunaState.WAITING,)))

    def _batch_size(self) -> int:
        return self._sampler.batch_size() if isinstance(self._sampler, FrontSampler) else BASELINE_BATCH

    def _ask_one(self) -> Asked:
        trial = self.study.ask(self._codec.distributions)
        self._open[trial.number] = trial
        proposal = self._sampler.proposal(trial.number) if isinstance(self._sampler, FrontSampler) else None
        if proposal is None:
            origin = trial.user_attrs.get(ORIGIN, type(self._sampler).__name__.removesuffix("Sampler").lower())
            proposal = Proposal(self._codec.plan(trial.params), origin)
        trial.set_user_attr(ORIGIN, proposal.origin)
        return Asked(trial.number, proposal)

    def _frozen(self, trial: Trial) -> optuna.trial.FrozenTrial:
        params = self._codec.params(trial.plan)
        size_bytes = self._space.weight_bytes(trial.plan)  # a record counts the key/value cache too
        attrs: dict[str, Any] = dict(trial.sampler_state.get(_ATTRS, {}))
        complete = trial.state is TrialState.COMPLETE and trial.measurement is not None
        state = OptunaState.COMPLETE if complete else OptunaState.FAIL
        if not trial.state.is_finished:
            state, attrs = OptunaState.WAITING, attrs | {"fixed_params": params}
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", optuna.exceptions.ExperimentalWarning)
            frozen = optuna.trial.create_trial(
                state=state,
                params=params if trial.state.is_finished else {},
                distributions=self._codec.distributions if trial.state.is_finished else {},
                values=[size_bytes, trial.measurement.kl_divergence] if complete and trial.measurement else None,
                user_attrs={ORIGIN: trial.origin},
                system_attrs=attrs,
                constraints={_BUDGET: size_bytes - self._budget} if trial.state.is_finished else None,
            )
        if trial.state.is_finished:
            frozen.distributions = self._codec.distributions  # all trials share them; see PlanCodec
        return frozen

    def _proposal_of(self, trial: Trial) -> Proposal:
        state: Mapping[str, Any] = trial.sampler_state
        base = Plan.from_json(state["base"]) if state.get("base") else None
        base = self._bases.setdefault(base.digest, base) if base else None  # thousands of probes share a few
        return Proposal(trial.plan, trial.origin, state.get("num_sequences"), base)
