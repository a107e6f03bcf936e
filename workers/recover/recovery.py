"""What every recovery tells of itself, and how one is tried: its levels are kept only where they are better."""

from collections.abc import Callable
from dataclasses import dataclass

from space.inventory import Inventory
from space.plan import Plan
from space.results.front import paired_interval
from workers.devices import Device
from workers.tasks import Evaluate, Teach, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker

Progress = Callable[[int, int], None]
"""told (done, all)"""


@dataclass(frozen=True, slots=True)
class Recovery:
    """Something that changes the values of a chosen plan's levels, never their bytes.

    Attributes:
        name: as users write it.
        done: what it did, as the rest of a sentence that begins with "The point was".
        can_help: (model, plan) -> whether it would change anything.
        needed_bytes: (model, tokens, device) -> the memory that it takes.
        estimated_seconds: (model, tokens) -> about how long it takes on one core.
        num_tokens: text -> how many tokens of it are read.
        levels: makes and stores the new levels; returns the token set under whose name a level store has them.

    """

    name: str
    done: str
    can_help: Callable[[Inventory, Plan], bool]
    needed_bytes: Callable[[Inventory, int, Device], int]
    estimated_seconds: Callable[[Inventory, int], float]
    num_tokens: Callable[[TokenSet], int]
    levels: Callable[[Workspace, Plan, TokenSet, Progress], TokenSet]


@dataclass(frozen=True, slots=True)
class Recovered:
    """What a recovery came to.

    Attributes:
        recovery: which one.
        tokens: names the levels to export: the new ones if they are kept, else those that the search measured.
        kl_before, kl_after: on held-out text, nats per token.
        kept: whether it helped measurably: the paired 95 % interval of the difference lies below zero.

    """

    recovery: Recovery
    tokens: TokenSet
    kl_before: float
    kl_after: float
    kept: bool


def recover_if_better(
    recovery: Recovery, workspace: Workspace, plan: Plan, tokens: TokenSet, progress: Progress = lambda *_: None
) -> Recovered:
    """Recover a plan, and keep that only where its KL on held-out text is measurably lower."""
    named = recovery.levels(workspace, plan, tokens, progress)
    Worker(workspace).run(Teach(tokens, "held_out"))
    # a worker knows levels by their text, so each store's are measured by one of its own
    before, after = (Worker(workspace).run(Evaluate(t, plan, "held_out")) for t in (tokens, named))
    kept = paired_interval(after.sequence_kl, before.sequence_kl)[1] < 0
    return Recovered(recovery, named if kept else tokens, before.kl_divergence, after.kl_divergence, kept)
