"""Figures of the service for Prometheus: requests, answer times, jobs by state."""

import time
from collections.abc import Mapping

from prometheus_client import CONTENT_TYPE_LATEST, CollectorRegistry, Counter, Gauge, Histogram, generate_latest
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from storage.records import JobState


class Figures:
    """Counts in a registry of its own."""

    def __init__(self) -> None:
        """Begin at zero."""
        self._registry = CollectorRegistry()
        self._requests = Counter(
            "tightfit_requests", "Requests answered.", ["method", "route", "status"], registry=self._registry
        )
        self._seconds = Histogram(
            "tightfit_request_seconds", "Time to the first byte of an answer.", ["route"], registry=self._registry
        )
        self._jobs = Gauge("tightfit_jobs", "Jobs by state.", ["state"], registry=self._registry)

    def count(self, scope: Scope, status: int, seconds: float) -> None:
        """Count one answer, under the route that it took: addresses would be too many."""
        route = getattr(scope.get("route"), "path", "none")
        self._requests.labels(str(scope["method"]), route, str(status)).inc()
        self._seconds.labels(route).observe(seconds)

    def text(self, jobs: Mapping[JobState, int]) -> tuple[bytes, str]:
        """Return all figures, with how many jobs are in each state, and their media type."""
        for state, count in jobs.items():
            self._jobs.labels(str(state)).set(count)
        return generate_latest(self._registry), CONTENT_TYPE_LATEST


class Counting:
    """An ASGI application that counts the answers of another one."""

    def __init__(self, app: ASGIApp, figures: Figures) -> None:
        """Remember both."""
        self._app, self._figures = app, figures

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Pass a request on and count its answer."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()

        async def sending(message: Message) -> None:
            if message["type"] == "http.response.start":
                self._figures.count(scope, message["status"], time.perf_counter() - began)
            await send(message)

        await self._app(scope, receive, sending)
