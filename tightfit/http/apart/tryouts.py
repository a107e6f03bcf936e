"""Prompts answered in a process apart, which holds a point and its dense model between them."""

from collections.abc import Iterator
from contextlib import suppress
from dataclasses import asdict
from multiprocessing.connection import Connection
from threading import Lock
from typing import Any

from space.errors import ModelError, QuotaError, TightfitError
from tightfit.config import Settings
from tightfit.http.apart.process_apart import ProcessApart
from workers.runtime.prompt import Prompt

_LOAD_SECONDS = 600.0  # unpacking a large model
_TOKEN_SECONDS = 60.0
_TURN_SECONDS = 30.0
_IDLE_SECONDS = 300.0


class Tryouts:
    """Answers one prompt at a time."""

    def __init__(self, settings: Settings) -> None:
        """Start nothing yet."""
        self._process = ProcessApart("tightfit-tryout", _answer, settings)
        self._lock = Lock()

    def pieces(self, job_id: str, point: str | None, prompt: Prompt) -> Iterator[dict[str, Any]]:
        """Yield the pieces of both answers as JSON objects; see `workers.runtime.prompt.Piece`.

        Raises:
            QuotaError: other prompts are being answered.
            TightfitError: see `tightfit.jobs.trying.try_point`.

        """
        if not self._lock.acquire(timeout=_TURN_SECONDS):
            raise QuotaError("Other prompts are being answered; one is at a time. Try again in a minute.")
        is_whole = False
        try:
            ask = self._process.connected()
            ask.send((job_id, point, prompt))
            yield from _received(ask)
            is_whole = True
        except TightfitError:
            is_whole = True
            raise
        except TimeoutError as late:
            raise ModelError(f"{late}, so that it was ended. Try a smaller model.") from late
        except (EOFError, OSError) as gone:
            raise ModelError(
                "The process that answers prompts ended (out of memory, or a fault in a library). Try a smaller model, "
                "or export the point and run it."
            ) from gone
        finally:
            if not is_whole:  # somebody went away, or it hangs: what it still says is for nobody
                self._process.end()
            self._lock.release()

    def close(self) -> None:
        """End the process."""
        self._process.end()


def _received(ask: Connection) -> Iterator[dict[str, Any]]:
    limit = _LOAD_SECONDS
    while ask.poll(limit):
        error, piece = ask.recv()
        if error is not None:
            raise error
        if piece is None:
            return
        yield piece
        limit = _TOKEN_SECONDS
    raise TimeoutError(f"No token came for {limit:.0f} s")


def _answer(questions: Connection, settings: Settings) -> None:
    """Answer prompts until none came for a while."""
    from tightfit.gc import at_home
    from tightfit.jobs.trying import try_point
    from tightfit.service import Service

    service = Service(settings)
    with suppress(EOFError, OSError, KeyboardInterrupt):
        while questions.poll(_IDLE_SECONDS):
            job_id, point, prompt = questions.recv()
            try:
                job, document = at_home(service.store.get_job(job_id), settings.cache_folder), service.front(job_id)
                for piece in try_point(job, document, service.plans(document), point, prompt):
                    questions.send((None, asdict(piece)))
                questions.send((None, None))
            except TightfitError as error:
                questions.send((error, None))
