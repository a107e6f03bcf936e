"""Plans that a request brings: measured, judged, and each beside the best point of at most its bytes."""

from typing import Any

import pytest

from space.errors import SpecError
from storage.records import JobState
from tests.search.house import House
from tests.search.scripted import NAMES, ScriptedExecutor, prepared, spec

_THEIRS = {name: "b4-g32" if at % 2 else "b3-g32" for at, name in enumerate(NAMES[1:])} | {NAMES[0]: "b6-g32"}


@pytest.mark.parametrize("values", [{}, {"max_trials": 14}, {"sampler": "random", "max_trials": 30}])
def test_it_is_judged_beside_the_front(house: House, values: dict[str, Any]) -> None:
    """By every search; a level of it that the menu lacks joins the menu."""
    house.submit(plans={"theirs": _THEIRS}, **values)
    assert house.run(ScriptedExecutor()).state is JobState.DONE
    document = house.document()
    (given,) = document.given
    trial = house.store.list_trials("one")[given.trial]
    assert trial.plan.to_json() == {name: _THEIRS[name] for name in NAMES}
    assert trial.held_out is not None
    assert (given.name, given.kl_divergence) == ("theirs", trial.held_out.kl_divergence)
    best = max((p for p in document.front if p.size_bytes <= given.size_bytes), key=lambda p: p.size_bytes)
    assert given.versus_front is not None
    assert given.versus_front.other == best.point
    assert given.versus_front.ratio == pytest.approx(best.kl_divergence / given.kl_divergence)
    assert best.kl_divergence <= given.kl_divergence


def test_another_job_brings_it_later(house: House) -> None:
    """A job that answers from what earlier ones know measures it all the same."""
    house.submit()
    house.run(ScriptedExecutor())
    house.submit("two", plans={"theirs": dict.fromkeys(NAMES, "b3-g32")})
    house.run(ScriptedExecutor(), "two")
    assert [given.name for given in house.document("two").given] == ["theirs"]
    assert house.document("two").cost.trials < house.document("one").cost.trials / 2


@pytest.mark.parametrize(
    ("values", "told"),
    [
        ({"plans": {"theirs": {"no.such": "b4-g32"}}}, "--plan theirs: the model has no module no.such"),
        ({"plans": {"theirs": {NAMES[1]: "b4-g32"}}, "pins": ((NAMES[1], "b8-g32"),)}, "is pinned to b8-g32"),
        (
            {"plans": {"theirs": {NAMES[0]: "b4-g32"}}, "target": "compressed-tensors"},
            "cannot be stored as b4-g32 for target compressed-tensors",
        ),
    ],
)
def test_what_no_search_can_hold_is_refused(values: dict[str, Any], told: str) -> None:
    """By the plan's name, before a job exists."""
    with pytest.raises(SpecError, match=told):
        prepared(spec(**values))
