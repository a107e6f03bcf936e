"""What every command takes and does: where the home is, and how JSON is printed."""

import json
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from tightfit.service import Service

Home = Annotated[
    Path | None, typer.Option("--home", help="Folder for everything, the database too [default: $TIGHTFIT_HOME].")
]
AsJson = Annotated[bool, typer.Option("--json", help="Print one JSON document on stdout.")]
Workers = Annotated[
    int | None, typer.Option(min=1, help="Ray workers here [default: what each job asked for]; the front is the same.")
]
Detach = Annotated[bool, typer.Option("--detach", help="Return at once; see `tightfit status`.")]
Queue = Annotated[bool, typer.Option("--queue", help="Return at once and leave the job to `tightfit work`.")]
JobName = Annotated[str, typer.Argument(help="The job's id.")]


def open_service(home: Path | None = None) -> "Service":
    """Return the service of a home."""
    from tightfit.config import load_settings  # noqa: PLC0415 (keeps --help fast)
    from tightfit.service import Service  # noqa: PLC0415

    return Service(load_settings(home))


def print_json(value: Any) -> None:
    """Print one JSON document on stdout."""
    print(json.dumps(value, indent=2, allow_nan=False))
