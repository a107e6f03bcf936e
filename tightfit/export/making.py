"""Making an export in a folder that is there: levels, a recovery where it helps, the files, and their proof."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any, Protocol

from space.budget import format_bytes
from tightfit.export.checkpoint import write_checkpoint
from tightfit.export.source import Source, Written
from tightfit.export.verify import Promise, Verified, verify_export
from workers.run.memory_limits import free_bytes
from workers.tasks import Evaluate, Workspace
from workers.text.tokens import TokenSet

if TYPE_CHECKING:
    from workers.recover.recovery import Recovered, Recovery

_BEFORE_RECOVERY, _RECOVERED, _WRITTEN = 0.05, 0.75, 0.85  # shares of the work that are done by then, about


class Steps(Protocol):
    """Who is told how far a task is."""

    def tell(self, sentence: str) -> None:
        """Take note of a sentence for people."""

    def reach(self, step: str, share_done: float) -> None:
        """Take note of a step that begins or goes on. Raises what ends the task, where it shall end."""

    def keep(self, result: dict[str, Any]) -> None:
        """Record what came of the task, just before its folder is put in place."""

    def look(self) -> None:
        """See whether the task may go on. Raises what ends it, where it shall end."""

    def watch(self, step: int, figures: Mapping[str, float]) -> None:
        """Take note of a step of a learning curve."""


@dataclass(frozen=True, slots=True)
class Order:
    """What is to be made.

    Attributes:
        source: the plan, and where its bytes come from.
        workspace: where a worker finds the same model and its levels.
        tokens: the text that levels were calibrated on, and that plans are judged on.
        target: what it is written as.
        recovery: what may change its levels' values.
        is_recovered: as wished; None: where that can help and memory holds both models.
        weight_budget: bytes that its tensors must not exceed.
        dense_folder: of the model whose answers it is compared with.
        recorded_kl: on held-out text; None: not measured.
        is_same_device: whether that was measured on what the export is verified on.

    """

    source: Source
    workspace: Workspace
    tokens: TokenSet
    target: str
    recovery: "Recovery"
    is_recovered: bool | None
    weight_budget: int
    dense_folder: str
    recorded_kl: float | None
    is_same_device: bool


@dataclass(frozen=True, slots=True)
class Made:
    """What was made and proved; `refitted` is None where no recovery was tried."""

    written: Written
    verified: Verified
    refitted: "Recovered | None"


def make_export(order: Order, folder: Path, steps: Steps) -> Made:
    """Write a plan's files into an empty folder and verify them by reloading.

    Raises:
        VerificationError: they do not hold what was promised.
        LevelDamagedError: a level was damaged and cannot be built again here.

    """
    steps.reach("reading levels", 0.0)
    _make_missing(order)
    refitted = _recovered(order, steps) if _is_recovered(order, steps) else None
    source, tokens, promised = order.source, order.tokens, (order.recorded_kl, order.is_same_device)
    if refitted is not None and refitted.kept:
        tokens, promised = refitted.values.tokens, (refitted.kl_after, True)
        source = replace(source, levels=replace(source.levels, calibration_digest=tokens.of("calibration")))
    steps.reach("writing the files", _RECOVERED)
    written = write_checkpoint(folder, source, order.target)
    step = "loading the files again in a fresh process"
    steps.reach(step, _WRITTEN)
    verified = verify_export(
        written,
        source.inventory,
        source.plan,
        order.target,
        Promise(order.weight_budget, *promised),
        _request(order.workspace, tokens),
        lambda: steps.reach(step, _WRITTEN),
    )
    return Made(written, verified, refitted)


def _request(workspace: Workspace, tokens: TokenSet) -> Mapping[str, Any]:
    """Return where a fresh process finds what an export is compared with (see `workers.runtime.reload`)."""
    return {
        "model_folder": workspace.model_folder,
        "cache_folder": workspace.cache_folder,
        "model_digest": workspace.model_digest,
        "tokens": tokens.to_json(),
        "device": workspace.device,
    }


def _make_missing(order: Order) -> None:
    """Make what is not here, because other nodes have it in folders of their own: the same bytes again."""
    from workers.worker import Worker

    dense = replace(order.workspace, model_folder=order.dense_folder)
    worker, task = Worker(dense), Evaluate(order.tokens, order.source.plan, "held_out")
    if Path(order.tokens.path).exists() and worker.lacks(task):  # without its text there is nothing to make it of
        worker.provide(task)


def _is_recovered(order: Order, steps: Steps) -> bool:
    """Tell whether to recover: as wished, else wherever it can help and both models fit into memory."""
    inventory, device, recovery = order.source.inventory, order.workspace.device, order.recovery
    if order.is_recovered is False or not recovery.can_help(inventory, order.source.plan):
        return False
    name, count = recovery.name, recovery.num_tokens(order.tokens)
    needed, free = recovery.needed_bytes(inventory, count, device), free_bytes(device)
    if order.is_recovered is None and needed > free:
        told = f"it takes {format_bytes(needed)} of memory and {format_bytes(free)} are free; --{name} tries it"
        steps.tell(f"{name}: left out, since {told}")
        return False
    minutes = max(1, round(recovery.estimated_seconds(inventory, count) / 60))
    steps.tell(f"{name}: about {minutes} min on one core; --no-{name} leaves it out")
    return True


def _recovered(order: Order, steps: Steps) -> "Recovered":
    from workers.recover.recovery import Lesson, Values, recover_if_better

    def progress(sentence: str, done: float) -> None:
        steps.tell(sentence)
        steps.reach(sentence, _BEFORE_RECOVERY + (_RECOVERED - _BEFORE_RECOVERY) * done)

    steps.reach(order.recovery.name, _BEFORE_RECOVERY)
    start = Values(order.tokens, order.workspace.model_folder)
    return recover_if_better(order.recovery, Lesson(order.workspace, order.source.plan, start, progress))
