"""The page: its files, as they lie in the package, and what it needs to know of the service."""

from functools import cache
from importlib.resources import files

from fastapi import APIRouter, Request, Response
from fastapi.responses import JSONResponse

from space.errors import NotFoundError
from space.parsing.addresses import without_password
from space.requests.presets import PRESETS
from space.targets.target_table import TARGETS
from tightfit import __version__
from tightfit.http.callers import Caller, Reader, ServiceOfApp
from tightfit.http.problems import problem_responses
from tightfit.http.routes.mlflow_routes import PREFIX, may_see
from tightfit.http.shapes import About
from tightfit.uploads.announced import ACCEPTED

router = APIRouter()
_MEDIA_TYPES = {".html": "text/html", ".css": "text/css", ".js": "text/javascript", ".svg": "image/svg+xml"}
_OF_REPORT = ("report.css", "report.js", "report_tools.js")


@router.get("/", include_in_schema=False)
def index() -> Response:
    """Return the page."""
    return _file("index.html")


@router.get("/page/{name}", include_in_schema=False)
def show_file(name: str) -> Response:
    """Return a file of the page."""
    return _file(name)


@router.get("/v1/about", response_model=About, tags=["health"], responses=problem_responses(401, 403))
def about(request: Request, caller: Reader, service: ServiceOfApp) -> JSONResponse:
    """Tell what service this is: its version, the targets that it exports for, who asks, and where MLflow is."""
    presets = [{"name": name, "summary": p.summary, "values": dict(p.values)} for name, p in PRESETS.items()]
    told = {"version": __version__, "targets": list(TARGETS), "presets": presets, "upload_files": list(ACCEPTED)}
    return JSONResponse(told | {"user": caller.user, "mlflow": _mlflow(request, caller, service)})


def _mlflow(request: Request, caller: Caller, service: ServiceOfApp) -> str | None:
    """Return the address of the MLflow that shows this service's jobs, where one runs that the caller may see.

    Where callers need tokens, it is that of the service's own door: MLflow itself listens on loopback alone.
    """
    from storage.tracking.mlflow_server import find_server

    uri = service.settings.mlflow_uri
    if uri is not None:
        return without_password(uri) if uri.startswith(("http://", "https://")) else None
    found = find_server(service.settings.home)
    if found is not None and caller.token_id is not None:
        return f"{PREFIX}/" if may_see(request, caller) else None
    return None if found is None else found.url


@cache
def _contents() -> dict[str, bytes]:
    """Return the page's files by name; the report's are the page's too."""
    page, report = files("tightfit.http").joinpath("page"), files("tightfit.report")
    own = {entry.name: entry.read_bytes() for entry in page.iterdir() if entry.is_file()}
    return own | {name: report.joinpath(name).read_bytes() for name in _OF_REPORT}


def _file(name: str) -> Response:
    found = _contents().get(name)
    if found is None:
        raise NotFoundError(f"/page/{name[:100]}: the page has no such file.")
    media_type = next((kind for ending, kind in _MEDIA_TYPES.items() if name.endswith(ending)), None)
    return Response(found, media_type=media_type)
