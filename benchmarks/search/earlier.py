"""An earlier document of a league: its runs stand, and only their plans are judged again.

So a league that takes hours goes on where its state folder is lost, or on another machine, and anybody can check a
committed document in minutes: how far each plan's KL is from what the document says.
"""

import json
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.arena import Arena
from benchmarks.search.methods import METHODS
from benchmarks.search.units import SeedRun, State, Unit, judge
from space.plan import Plan

ALPHABET = "0123456789abcdefghijklmnopqrstuvwxyzABCDEFGHIJKLMNOPQRSTUVWXYZ"


def encode(plan: Plan, levels: Sequence[str]) -> str:
    """Return one character per module."""
    return "".join(ALPHABET[levels.index(str(level))] for _, level in plan.levels)


def decode(text: str, modules: Sequence[str], levels: Sequence[str]) -> Plan:
    """Return the plan of a string."""
    return Plan.from_json({name: levels[ALPHABET.index(c)] for name, c in zip(modules, text, strict=True)})


@dataclass(frozen=True, slots=True)
class Earlier:
    """What a document holds, run by run; empty where there is none."""

    document: Mapping[str, Any]

    @classmethod
    def read(cls, path: Path | None, arena: Arena) -> "Earlier":
        """Return the document of a file; one of another model or other budgets ends the program."""
        if path is None:
            return cls({})
        try:
            document = json.loads(path.read_text(encoding="utf-8"))
            same = list(arena.space.levels) == document["modules"]
            same = same and {str(bits): size for bits, size in arena.budgets.items()} == document["budgets"]
        except (OSError, ValueError, KeyError, TypeError) as error:
            raise SystemExit(f"--earlier {path}: no document of an allocation league ({error!r})") from error
        if not same:
            raise SystemExit(f"--earlier {path}: made with another model or other budgets; run the league without it")
        return cls(document)

    def has(self, unit: Unit) -> bool:
        """Tell whether a unit need not be run: its method and seed are there with plans for all budgets."""
        found = self.run(unit.method, unit.seed)
        return found is not None and set(found.plans) == {str(bits) for bits in METHODS[unit.method].budgets}

    def run(self, method: str, seed: int) -> SeedRun | None:
        """Return what a method found and spent with a seed; None where the document has no such run."""
        row = self.document.get("methods", {}).get(method, {})
        if seed not in row.get("seeds", ()):
            return None
        modules, levels, place = self.document["modules"], self.document["levels"], row["seeds"].index(seed)
        texts = {bits: by_seed[str(seed)] for bits, by_seed in row["plans"].items() if str(seed) in by_seed}
        return SeedRun(
            seed,
            {bits: decode(text, modules, levels) for bits, text in texts.items()},
            row["token_forwards"][place],
            row["seconds"][place],
            row["anytime"][str(seed)],
        )

    def kl(self, method: str, seed: int, bits: str) -> float:
        """Return a plan's test KL as the document has it."""
        return float(self.document["methods"][method]["kl"][bits][str(seed)])


def judge_again(units: Sequence[Unit], earlier: Earlier, state: State, arena: Arena) -> Iterator[tuple[str, float]]:
    """Judge what the document has of the units and the state does not; yield plans' names and ratios to the KL then.

    Levels built on another kind of machine may differ in their last digits, and so may the KL.
    """
    for method, seed in dict.fromkeys((unit.method, unit.seed) for unit in units if earlier.has(unit)):
        run = earlier.run(method, seed)
        for bits, plan in run.plans.items() if run else ():
            sequence_kl = judge(plan, state, arena)
            yield f"{method}-s{seed}-b{bits}", sum(sequence_kl) / len(sequence_kl) / earlier.kl(method, seed, bits)
