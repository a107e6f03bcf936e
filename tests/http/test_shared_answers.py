"""Answers that many ask for at once: made once, given to those alone who may see them, no older than a change."""

import asyncio
import threading
from collections.abc import Callable, Coroutine
from typing import Any

import pytest
from fastapi import Response

from space.errors import JobFailedError, NotFoundError
from storage.in_memory import MemoryStore
from tests.search.scripted import spec
from tightfit.http.callers import Caller, Scope
from tightfit.http.shared_answers import SharedAnswers

ADA, BEN, ROOT = Caller("ada", Scope.READ), Caller("ben", Scope.READ), Caller("root", Scope.ADMIN)


class Told:
    """Counts how often it is asked; while it is held it does not answer."""

    def __init__(self, error: Exception | None = None) -> None:
        self.count, self.error, self.held = 0, error, threading.Event()
        self.held.set()

    def __call__(self) -> dict[str, int]:
        self.count += 1
        number = self.count
        assert self.held.wait(30)
        if self.error is not None:
            raise self.error
        return {"number": number}


class _Service:
    """Has a store with a job of ada's."""

    def __init__(self) -> None:
        self.store = MemoryStore()
        self.store.create_job("one", spec(), user="ada")


def run(scenario: Callable[[SharedAnswers], Coroutine[Any, Any, None]], seconds: float = 60.0) -> None:
    """Run a scenario with answers that are kept for so long."""

    async def begun() -> None:
        await scenario(SharedAnswers(_Service(), seconds))  # type: ignore[arg-type]

    asyncio.run(asyncio.wait_for(begun(), 60))


def number(answer: Response) -> bytes:
    """Return the body."""
    return bytes(answer.body)


def test_who_asks_together_is_told_together() -> None:
    """A hundred at once cost one answer, and so do those who come a moment later."""
    told = Told()

    async def scenario(shared: SharedAnswers) -> None:
        told.held.clear()
        asked = [asyncio.create_task(shared.answer("status", "one", ADA, told)) for _ in range(100)]
        await asyncio.sleep(0.1)
        told.held.set()
        found = {number(answer) for answer in await asyncio.gather(*asked)}
        found.add(number(await shared.answer("status", "one", ROOT, told)))
        assert found == {b'{"number":1}'}
        assert number(await shared.answer("front", "one", ADA, told)) == b'{"number":2}'

    run(scenario)


def test_a_change_ends_what_was_told_before() -> None:
    """What was made, and what was begun and is not there yet."""
    told = Told()

    async def scenario(shared: SharedAnswers) -> None:
        await shared.answer("status", "one", ADA, told)
        shared.forget()
        told.held.clear()
        before = asyncio.create_task(shared.answer("status", "one", ADA, told))
        await asyncio.sleep(0.1)
        shared.forget()
        after = asyncio.create_task(shared.answer("status", "one", ADA, told))
        await asyncio.sleep(0.1)
        told.held.set()
        assert [number(await before), number(await after)] == [b'{"number":2}', b'{"number":3}']
        assert number(await shared.answer("status", "one", ADA, told)) == b'{"number":3}'

    run(scenario)


def test_an_old_answer_is_made_again() -> None:
    """Whoever changed what it tells, such as a controller elsewhere."""
    told = Told()

    async def scenario(shared: SharedAnswers) -> None:
        await shared.answer("status", "one", ADA, told)
        await asyncio.sleep(0.02)
        assert number(await shared.answer("status", "one", ADA, told)) == b'{"number":2}'

    run(scenario, seconds=0.01)


def test_others_are_told_nothing() -> None:
    """Neither an answer nor an error, be it made for them or for its owner; errors are not kept."""
    told, failing = Told(), Told(JobFailedError("no front yet"))

    async def scenario(shared: SharedAnswers) -> None:
        for caller in (BEN, ADA, BEN):
            if caller is ADA:
                assert number(await shared.answer("status", "one", ADA, told)) == b'{"number":1}'
                with pytest.raises(JobFailedError, match="no front yet"):
                    await shared.answer("front", "one", ADA, failing)
                continue
            for what, tell in (("status", told), ("front", failing)):
                with pytest.raises(NotFoundError, match="no job 'one' of yours"):
                    await shared.answer(what, "one", BEN, tell)
        assert (told.count, failing.count) == (1, 3)
        with pytest.raises(NotFoundError, match="no job 'two' of yours"):
            await shared.check_seen("two", ROOT)

    run(scenario)
