"""The REST service as an application: its resources, behind its guards."""

from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path

from anyio import to_thread
from fastapi import FastAPI
from fastapi.routing import APIRoute

from tightfit import __version__
from tightfit.client.forwarding import Forwarding
from tightfit.http.admission.allowed_models import AllowedModels
from tightfit.http.admission.quotas import Quotas
from tightfit.http.admission.submissions import Submissions
from tightfit.http.apart.request_judge import Apart, Judge
from tightfit.http.apart.tryouts import Tryouts
from tightfit.http.audit import Audited
from tightfit.http.callers import Gate
from tightfit.http.event_streams import EventStreams
from tightfit.http.figures import Counting, Figures
from tightfit.http.guards import Guard, allowed_hosts
from tightfit.http.problems import Problem, handle_problems
from tightfit.http.routes import (
    event_routes,
    export_routes,
    front_routes,
    health_routes,
    job_routes,
    mlflow_routes,
    page_routes,
    people_routes,
    recovery_routes,
    tryout_routes,
    upload_routes,
    webhook_routes,
)
from tightfit.http.shared_answers import SECONDS as SHARE_SECONDS
from tightfit.http.shared_answers import SharedAnswers
from tightfit.service import Service
from tightfit.uploads.upload_store import UploadStore
from tightfit.webhooks.deliverer import Deliverer
from tightfit.webhooks.destinations import Destinations

MAX_BODY_BYTES = 2**20
_ABOUT = """
Find how to compress a model so that it fits a memory budget and loses as little as possible.

Submit a job (`POST /v1/jobs`), watch it (`GET /v1/jobs/{job}`), look at its front while it grows
(`GET /v1/jobs/{job}/front`). Errors are problem details (RFC 9457): `detail` says what, where and what to do next.
"""


@dataclass(frozen=True, slots=True)
class ApiOptions:
    """How a service is offered.

    Attributes:
        host: the address that it is bound to.
        allowed_hosts: further names that requests may be addressed to.
        model_folders: folders whose models and texts may be read.
        max_body_bytes: of a request.
        quotas: what a user may have.
        webhook_hosts: of private addresses that webhooks may have.
        share_seconds: how long an answer is given again to who asks the same.
        is_mlflow_shared: everybody who may read sees MLflow, which shows the jobs of all; else administrators do.

    """

    host: str = "127.0.0.1"
    allowed_hosts: Sequence[str] = ()
    model_folders: Sequence[Path] = field(default=())
    max_body_bytes: int = MAX_BODY_BYTES
    quotas: Quotas = field(default=Quotas())
    webhook_hosts: Sequence[str] = ()
    is_mlflow_shared: bool = False
    share_seconds: float = SHARE_SECONDS


def create_app(service: Service, gate: Gate, options: ApiOptions | None = None, judge: Judge | None = None) -> FastAPI:
    """Return the application; `gate` knows who asks, `judge` (default: a process apart) judges requests."""
    options = options or ApiOptions()
    judge, tryouts = judge or Apart(service.settings), Tryouts(service.settings)
    destinations = Destinations(frozenset(options.webhook_hosts))

    @asynccontextmanager
    async def life(app: FastAPI) -> AsyncIterator[None]:
        deliverer = Deliverer(service.store, destinations)
        deliverer.start()
        yield
        await app.state.forwarding.close()
        await to_thread.run_sync(deliverer.stop)
        judge.close()
        tryouts.close()

    app = FastAPI(
        title="tightfit",
        version=__version__,
        description=_ABOUT,
        openapi_url="/v1/openapi.json",
        docs_url=None,  # their pages load scripts from elsewhere
        redoc_url=None,
        lifespan=life,
        generate_unique_id_function=_operation_id,
    )
    app.state.service, app.state.gate, app.state.judge, app.state.tryouts = service, gate, judge, tryouts
    app.state.submissions = Submissions(service, judge, options.quotas)
    app.state.uploads = UploadStore(service.settings.uploads_folder)
    app.state.allowed_models = AllowedModels(app.state.uploads, tuple(options.model_folders))
    app.state.quotas, app.state.is_mlflow_shared = options.quotas, options.is_mlflow_shared
    app.state.destinations, app.state.forwarding = destinations, Forwarding()
    shared = SharedAnswers(service, options.share_seconds)
    app.state.shared_answers, app.state.figures = shared, Figures()
    app.state.event_streams = EventStreams(service.store, changed=shared.forget)
    handle_problems(app, service.settings.home)
    for router in (
        page_routes.router,
        health_routes.router,
        job_routes.router,
        front_routes.router,
        event_routes.router,
        export_routes.router,
        recovery_routes.router,
        people_routes.router,
        tryout_routes.router,
        upload_routes.router,
        webhook_routes.router,
        mlflow_routes.router,
    ):
        app.include_router(router)
    app.add_middleware(Audited, store=service.store, changed=shared.forget)
    hosts = allowed_hosts(options.host, options.allowed_hosts)
    app.add_middleware(Guard, hosts=hosts, max_body_bytes=options.max_body_bytes, streams=upload_routes.PARTS)
    app.add_middleware(Counting, figures=app.state.figures)
    _describe(app)
    return app


def _operation_id(route: APIRoute) -> str:
    return route.name


def _describe(app: FastAPI) -> None:
    """Add the shape of problems to the OpenAPI document, in place of the framework's own."""
    make = app.openapi

    def openapi() -> dict[str, object]:
        if app.openapi_schema is None:
            document = make()
            shapes = document["components"]["schemas"]
            for name in ("HTTPValidationError", "ValidationError"):
                shapes.pop(name, None)
            whole = Problem.model_json_schema(ref_template="#/components/schemas/{model}")
            shapes |= whole.pop("$defs", {})
            shapes["Problem"] = whole
            app.openapi_schema = document
        return app.openapi_schema

    app.openapi = openapi  # type: ignore[method-assign]
