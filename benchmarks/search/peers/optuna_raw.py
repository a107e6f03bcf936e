"""Optuna's own multi-objective TPE and NSGA-II on the raw levels: what one gets without a method of one's own.

Objectives: bytes, and KL on 8,192 tokens. As a favour the uniform plans are asked first, and the parameters are ordered
integers.
"""

from functools import partial
from typing import Literal

import optuna
from optuna.samplers import BaseSampler, NSGAIISampler, TPESampler

from benchmarks.search.arena import SEQUENCE_LENGTH, Arena
from benchmarks.search.peers.common import Archive, Budgets, Plans
from search.study.plan_codec import PlanCodec

SamplerKind = Literal["tpe", "nsga2"]
NUM_SEQUENCES = 32
TOKEN_FORWARDS = 3e6
_POPULATION = 24


def make_sampler(kind: SamplerKind, seed: int) -> BaseSampler:
    """Return the sampler of a kind."""
    return (
        TPESampler(multivariate=True, seed=seed)
        if kind == "tpe"
        else NSGAIISampler(population_size=_POPULATION, seed=seed)
    )


def run(arena: Arena, budgets: Budgets, seed: int, *, kind: SamplerKind) -> Plans:
    """Return the best measured plan within each budget after one study."""
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    codec, archive = PlanCodec(arena.space), Archive(arena.space)
    study = optuna.create_study(directions=["minimize", "minimize"], sampler=make_sampler(kind, seed))
    for _, plan in arena.space.uniform_plans():
        study.enqueue_trial(codec.params(plan))
    while arena.token_forwards + NUM_SEQUENCES * SEQUENCE_LENGTH <= TOKEN_FORWARDS:
        trial = study.ask(codec.distributions)
        plan = codec.plan(trial.params)
        known = archive.entries.get(plan.digest)
        kl = known[1] if known else arena.measure(plan, NUM_SEQUENCES)
        archive.add(plan, kl)
        study.tell(trial, [float(arena.space.weight_bytes(plan)), kl])
    return {bits: archive.best_within(size_bytes) for bits, size_bytes in budgets.items()}


tpe = partial(run, kind="tpe")
nsga2 = partial(run, kind="nsga2")
