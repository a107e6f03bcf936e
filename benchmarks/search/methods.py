"""The league's methods: one dict, cheap ones first."""

from collections.abc import Mapping
from dataclasses import dataclass
from importlib import import_module
from pathlib import Path

from benchmarks.search.arena import BUDGET_BITS
from benchmarks.search.peers.common import Run

TOOLS = ("autoround", "modelopt-gradient", "modelopt-kl")


@dataclass(frozen=True, slots=True)
class Method:
    """How a method is run.

    Attributes:
        function: "module:function" under `benchmarks.search`, loaded where it is run.
        turn: lower turns are run first, for all seeds; within a turn the seeds follow each other.
        per_budget: one run for each budget instead of one for all.
        seeds: how many of the asked seeds are run; None is all.
        budgets: bits.
        is_peer: whether it counts when the best peer is looked for.

    """

    function: str
    turn: int = 0
    per_budget: bool = False
    seeds: int | None = None
    budgets: tuple[float, ...] = BUDGET_BITS
    is_peer: bool = True

    def load(self, outside: Path) -> Run:
        """Return the function; replays of outside tools read their plans from `outside`."""
        module_name, _, function_name = self.function.partition(":")
        module = import_module(f"benchmarks.search.{module_name}")
        if module_name == "peers.outside":
            tool: Run = module.tool(function_name, outside)
            return tool
        run: Run = getattr(module, function_name)
        return run


METHODS: Mapping[str, Method] = {
    "uniform": Method("peers.uniform:run", seeds=1),
    "error-knapsack": Method("peers.error_knapsack:run", seeds=1),
    "heuristic": Method("peers.heuristic:run"),
    "gradient": Method("peers.gradient:run"),
    "higgs": Method("peers.higgs:run"),
    **{tool: Method(f"peers.outside:{tool}") for tool in TOOLS},
    "random32": Method("peers.random32:run"),
    "tightfit": Method("peers.tightfit:run", turn=1, is_peer=False),
    "evopress": Method("peers.evopress:fast", turn=1, per_budget=True, seeds=1),
    "amq": Method("peers.amq:run", turn=1),
    "optuna-tpe": Method("peers.optuna_raw:tpe", turn=1),
    "optuna-nsga2": Method("peers.optuna_raw:nsga2", turn=1),
    "evopress-any-size": Method("peers.evopress:any_size", turn=2, per_budget=True, seeds=1, budgets=(2.5, 3.0)),
    "evopress-full": Method("peers.evopress:full", turn=3, per_budget=True, seeds=1, budgets=(2.5, 3.0)),
}
