"""Trying a point: it answers as its weights do, the dense model beside it, token by token."""

from collections.abc import Callable

import pytest
import torch

from space.errors import CalibrationError
from tests.workers.tiny_models import Bench, TinyKind
from workers.families.load_modules import load_model
from workers.run import memory_limits
from workers.runtime.prompt import Piece, Prompt
from workers.runtime.tryout import Tryout

TEXT = "import os\nfor name in"


def _whole(pieces: list[Piece], who: str) -> str:
    return "".join(piece.text for piece in pieces if piece.who == who)


def _greedy(at: Bench, count: int, plan_texts: list[str] | None) -> list[int]:
    """Return the likeliest tokens of a plan (or of the dense model), each from a forward of all before it."""
    from transformers import AutoTokenizer

    ids: list[int] = AutoTokenizer.from_pretrained(at.folder)(TEXT, add_special_tokens=False)["input_ids"]
    model = load_model(at.folder)
    for name, level in at.plan(plan_texts).levels if plan_texts else ():
        weight = dict(model.named_modules())[name].weight
        weight.data = at.store.weight(name, level, weight.shape) if not level.is_dense else weight.data
    given = len(ids)
    for _ in range(count):
        with torch.no_grad():
            ids = [*ids, int(model(input_ids=torch.tensor([ids])).logits[0, -1].argmax())]
    return ids[given:]


@pytest.mark.parametrize("kind", ["untied", "tied"])
def test_answers_are_those_of_the_weights(bench: Callable[[TinyKind], Bench], kind: TinyKind) -> None:
    """Both answers are what plain forwards of the same weights give, and come in turns."""
    from transformers import AutoTokenizer

    at = bench(kind)
    tryout, plan = Tryout(at.workspace, at.store), at.plan(["b2-g16"])
    pieces = list(tryout.answers(plan, Prompt(TEXT, max_tokens=12)))
    tokenizer = AutoTokenizer.from_pretrained(at.folder)
    assert _whole(pieces, "point") == tokenizer.decode(_greedy(at, 12, ["b2-g16"]))
    assert _whole(pieces, "dense") == tokenizer.decode(_greedy(at, 12, None))
    assert [piece.who for piece in pieces].index("dense") < max(i for i, p in enumerate(pieces) if p.who == "point")
    assert {(p.who, p.num_tokens) for p in pieces if p.is_last} == {("point", 12), ("dense", 12)}


def test_one_after_the_other_where_memory_holds_one(
    bench: Callable[[TinyKind], Bench], monkeypatch: pytest.MonkeyPatch
) -> None:
    """The same answers, the point's first."""
    at = bench("tied")
    plan, prompt = at.plan(["b2-g16"]), Prompt(TEXT, max_tokens=6, temperature=1.0, seed=3)
    both = list(Tryout(at.workspace, at.store).answers(plan, prompt))
    needed = memory_limits.needed_bytes(at.workspace.inventory)
    monkeypatch.setattr("workers.runtime.tryout.free_bytes", lambda _: 2 * needed - 1)
    tryout = Tryout(at.workspace, at.store)
    for _ in range(2):  # what a prompt held is no hindrance to the next
        apart = list(tryout.answers(plan, prompt))
        assert [p.who for p in apart] == sorted((p.who for p in apart), reverse=True)
        assert {w: _whole(apart, w) for w in ("point", "dense")} == {w: _whole(both, w) for w in ("point", "dense")}


def test_chat_without_a_template_is_refused(bench: Callable[[TinyKind], Bench]) -> None:
    """In one sentence, before a token is drawn."""
    at = bench("tied")
    with pytest.raises(CalibrationError, match="no chat template"):
        next(Tryout(at.workspace, at.store).answers(at.plan(["b4-g32"]), Prompt("hello", is_chat=True)))


def test_prompt_that_fills_the_context_is_answered_by_nothing(bench: Callable[[TinyKind], Bench]) -> None:
    """A model is asked for no position that it does not have."""
    at = bench("tied")
    positions = at.workspace.inventory.num_positions
    assert positions is not None
    pieces = list(Tryout(at.workspace, at.store).answers(at.plan(["b4-g32"]), Prompt("a b " * positions, max_tokens=4)))
    assert [(p.text, p.num_tokens, p.is_last) for p in pieces] == [("", 0, True), ("", 0, True)]
