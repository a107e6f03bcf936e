"""The service keeps what its OpenAPI document says, whatever it is asked: schemathesis makes the questions."""

from collections.abc import Iterator
from datetime import UTC, datetime
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, seed, settings
from hypothesis import strategies as st
from schemathesis.openapi import from_dict
from schemathesis.specs.openapi import checks

from space.errors import StateError
from storage.people import new_token
from tests.http.conftest import ADDRESS, World
from tightfit.http.callers import TokenGate

CASES, MANY_CASES = 12, 200
"""of each operation and round; there are more than 30, and some are asked few ways"""
TOGETHER, MOST_ROUNDS = 5000, 4
_SECONDS = 600.0  # a busy machine decides no test
_NOT_CHECKED: list[Any] = [checks.positive_data_acceptance]  # what a budget or a pin may be is said in words alone


@pytest.fixture(scope="module")
def bearer(world: World) -> Iterator[dict[str, str]]:
    """Give the header of an administrator's token: without it, and with others, everything is refused."""
    token, text = new_token("schemathesis", "admin", datetime.now(UTC))
    world.service.store.create_token(token)
    yield {"Authorization": f"Bearer {text}"}
    world.service.store.revoke_token(token.token_id)


def operations(world: World) -> dict[str, Any]:
    """Return label -> operation of the document of an application that demands tokens, whose jobs nobody runs."""
    app = world.client(TokenGate(world.service.store)).app
    schema = from_dict(plain_pairs(app.openapi()))  # type: ignore[attr-defined]
    schema.app, schema.location = app, "/v1/openapi.json"
    found: list[Any] = [result.ok() for result in schema.get_all_operations()]  # type: ignore[union-attr]
    return {operation.label: operation for operation in found}


def plain_pairs(value: Any) -> Any:
    """Return a document whose arrays of fixed length name the schemas of their values once, for any of the values.

    schemathesis 4.32 turns `prefixItems` into what it refuses itself.
    """
    if isinstance(value, list):
        return [plain_pairs(inner) for inner in value]
    if not isinstance(value, dict):
        return value
    found = {name: plain_pairs(inner) for name, inner in value.items() if name != "prefixItems"}
    if "prefixItems" in value:
        kinds = [plain_pairs(inner) for inner in value["prefixItems"]]
        found["items"] = kinds[0] if all(kind == kinds[0] for kind in kinds) else {"anyOf": kinds}
    return found


def made_sensible(world: World, case: Any) -> None:
    """Let a case be about a job that is there, and about a model that may be read: nothing else goes deep."""
    if "job" in (case.path_parameters or {}):
        reads = case.method.upper() == "GET"
        case.path_parameters["job"] = world.done if reads else fresh_job(world)
    if isinstance(case.body, dict) and {"model", "budget"} <= case.body.keys():
        odd = {name: value for name, value in case.body.items() if name not in ("model", "calibration", "revision")}
        case.body = world.request() | odd


def fresh_job(world: World) -> str:
    """Return a job that rests, for verbs that change it."""
    store = world.service.store
    try:
        store.create_job("jodd", store.glance(world.done).spec, "schemathesis")
    except StateError:
        if not store.glance("jodd").state.rests:
            store.request_cancel("jodd")
    return "jodd"


def ask(world: World, operation: Any, bearer: dict[str, str], cases: int, turn: int = 0) -> int:
    """Ask an operation so many odd questions, others each turn, all answered as is documented; return how many."""
    answered = 0

    @seed(turn)
    @settings(
        max_examples=cases,
        phases=[Phase.generate],
        deadline=None,
        database=None,
        suppress_health_check=list(HealthCheck),
    )
    @given(case=operation.as_strategy(), sensible=st.booleans())
    def check(case: Any, sensible: bool) -> None:  # noqa: FBT001 (drawn)
        nonlocal answered
        if sensible and not operation.label.endswith("/answers"):  # these load models: test_tryouts asks them
            made_sensible(world, case)
        if operation.label.endswith("/events"):
            case.query = {**(case.query or {}), "follow": "false"}  # the others have no end
        for name in [name for name in case.headers or {} if name.lower() == "authorization"]:
            del case.headers[name]
        case.call_and_validate(base_url=ADDRESS, headers=bearer, excluded_checks=_NOT_CHECKED, timeout=_SECONDS)
        answered += 1

    check()
    return answered


@pytest.mark.parametrize("part", range(3))
def test_odd_questions_get_documented_answers(world: World, bearer: dict[str, str], part: int) -> None:
    """A few hundred over all operations: no error of the service, no status, type or shape that is not documented."""
    found = operations(world)
    assert len(found) > 30
    assert sum(ask(world, found[label], bearer, CASES) for label in sorted(found)[part::3]) > 60


@pytest.mark.slow
@pytest.mark.timeout(7200)
def test_five_thousand_odd_questions(world: World, bearer: dict[str, str]) -> None:
    """The same, more often: in rounds over all operations, each with other questions."""
    found, answered = list(operations(world).values()), 0
    for turn in range(MOST_ROUNDS):
        answered += sum(ask(world, operation, bearer, MANY_CASES, turn) for operation in found)
        if answered >= TOGETHER:
            break
    assert answered >= TOGETHER
