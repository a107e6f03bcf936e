"""An earlier document of a league: its runs stand, and only their plans are judged again.

So a league that takes hours goes on where its state folder is lost, or on another machine, and anybody can check a
committed document in minutes: how far each plan's KL is from what the document says.
"""

import json
import string
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks.search.arena import Arena
from benchmarks.search.methods import METHODS
from benchmarks.search.units import SeedRun, State, Unit
from space.plan import Plan

ALPHABET = string.digits + string.ascii_letters


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

    def plans(self, unit: Unit) -> dict[str, Plan]:
        """Return bits -> plan of a unit; empty where it has to be run."""
        found = self.run(unit.method, unit.seed) if self.has(unit) else None
        return {} if found is None else {str(bits): found.plans[str(bits)] for bits in unit.budgets}

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

    def ratios(self, unit: Unit, state: State) -> dict[str, float]:
        """Return plan -> its KL as judged again over what the document says; not of those that are not judged yet.

        Levels built on another kind of machine may differ in their last digits, and so may the KL.
        """
        found = {}
        for bits, plan in self.plans(unit).items():
            before = self.document["methods"][unit.method]["kl"][bits][str(unit.seed)]
            if (sequence_kl := state.judged(plan)) is not None:
                found[f"{unit.method}-s{unit.seed}-b{bits}"] = sum(sequence_kl) / len(sequence_kl) / before
        return found
