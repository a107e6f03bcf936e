"""A point of a front and the dense model answer one prompt side by side, token by token: for people who want to see it.

Shape legend: T tokens, V vocabulary.
"""

import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import ModelError
from space.level import DENSE
from space.plan import Plan
from workers.families.family_table import FAMILIES
from workers.levels.level_store import LevelStore
from workers.run.engine import no_level
from workers.run.held_weights import Resident
from workers.run.memory_limits import free_bytes, needed_bytes
from workers.runtime.prompt import Piece, Prompt, Who
from workers.tasks import Workspace
from workers.text.tokenizer import load_tokenizer

_UNFINISHED = "\N{REPLACEMENT CHARACTER}"  # bytes of a character whose other tokens are still to come


class Tryout:
    """One model, held dense and at a plan; both at once where memory holds two of it, else one after the other."""

    def __init__(self, workspace: Workspace, levels: LevelStore, point_folder: Path | None = None) -> None:
        """Map the model.

        Args:
            workspace: of the dense model.
            levels: the point's.
            point_folder: the model with the point's norms and biases, where they are others than the dense model's.

        Raises:
            ModelError: models of its family give no text, or memory does not hold it.

        """
        torch.set_num_threads(1)  # as every worker
        self._workspace, self._levels = workspace, levels
        folder, inventory, device = Path(workspace.model_folder), workspace.inventory, workspace.device
        step = FAMILIES[inventory.family].sample
        if step is None:
            raise ModelError(f"{folder}: models of the family {inventory.family} give no text that could be shown.")
        self._step = step
        needed, free = needed_bytes(inventory, device), free_bytes(device)
        if needed > free:
            raise ModelError(f"{folder}: {needed:,} bytes of memory are needed to hold it unpacked, {free:,} are free.")
        self._tokenizer = load_tokenizer(folder)
        self._dense = Resident(folder, inventory, device)
        holds_both = 2 * needed <= free
        if point_folder is not None and not holds_both:
            told = f"{2 * needed:,} bytes of memory are needed to hold it beside the dense model, {free:,} are free"
            raise ModelError(f"{point_folder}: {told}.")
        self._point = Resident(point_folder or folder, inventory, device) if holds_both else self._dense

    def answers(self, plan: Plan, prompt: Prompt) -> Iterator[Piece]:
        """Yield both answers, in turns where both are held, else the point's first."""
        point, dense = (self._answer(who, plan, prompt) for who in ("point", "dense"))
        if self._point is self._dense:
            yield from point
            yield from dense
            return
        waiting: list[Iterator[Piece]] = [point, dense]
        while waiting:
            for answer in list(waiting):
                piece = next(answer, None)
                if piece is None:
                    waiting.remove(answer)
                else:
                    yield piece

    def _answer(self, who: Who, plan: Plan, prompt: Prompt) -> Iterator[Piece]:
        model = self._held(who, plan)
        ids = self._ids(prompt).to(self._workspace.device)
        ends, generator = _ends(model), torch.Generator().manual_seed(prompt.seed)
        given, text, shown, cache, spent = ids.shape[1], "", "", None, 0.0
        room = min(prompt.max_tokens, (self._workspace.inventory.num_positions or 2**31) - given)
        for count in range(1, room + 1):
            started = time.perf_counter()
            with torch.no_grad():
                logits, cache = self._step(model, ids, cache)
            chosen = _choose(logits[0].float().cpu(), prompt.temperature, generator)
            ids = torch.cat([ids, torch.tensor([[chosen]], device=ids.device)], dim=1)
            spent += time.perf_counter() - started
            text = self._tokenizer.text(ids[0, given:].tolist())
            if not text.endswith(_UNFINISHED):
                yield Piece(who, text[len(shown) :], count, spent)
                shown = text
            if chosen in ends:
                break
        yield Piece(who, text[len(shown) :], ids.shape[1] - given, spent, is_last=True)

    def _held(self, who: Who, plan: Plan) -> Any:
        """Return the model with the weights of an answer: those of the plan, or the dense ones."""
        if who == "point":
            self._point.hold(plan.levels, self._levels.weight)
            return self._point.model
        self._dense.hold(((name, DENSE) for name, _ in plan.levels), no_level)
        return self._dense.model

    def _ids(self, prompt: Prompt) -> Tensor:
        """Return the (1, T) tokens of a prompt."""
        text = self._tokenizer.turn(prompt.text) if prompt.is_chat else prompt.text
        ids = [*self._tokenizer.opening, *self._tokenizer.ids(text)]
        if not ids:
            raise ModelError("An empty prompt cannot be continued by this model: its texts begin with no token.")
        return torch.tensor([ids])


def _choose(logits_v: Tensor, temperature: float, generator: torch.Generator) -> int:
    if temperature == 0:
        return int(logits_v.argmax())
    return int(torch.multinomial((logits_v / temperature).softmax(-1), 1, generator=generator))


def _ends(model: Any) -> set[int]:
    """Return the tokens that end an answer, as the model's config says."""
    config = getattr(model, "generation_config", None) or model.config
    found = config.eos_token_id
    return set(found) if isinstance(found, list) else {found} - {None}
