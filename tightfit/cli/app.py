"""The command line. With --json exactly one JSON document goes to stdout; everything else goes to stderr."""

import signal
import sys
from contextlib import suppress
from pathlib import Path
from typing import Annotated, NoReturn

import typer

from space.errors import TightfitError, UsageError
from tightfit import __version__
from tightfit.cli.access import token_app
from tightfit.cli.base import (
    AsJson,
    Home,
    JobName,
    NewestJob,
    chosen,
    home_of,
    open_service,
    print_json,
    run_here,
    show_any_character,
)
from tightfit.cli.convert_plan import convert
from tightfit.cli.cut_student import student
from tightfit.cli.exports import export, exports
from tightfit.cli.jobs import cancel, delete, describe, logs, pause, resume, status, study
from tightfit.cli.recover_point import recover
from tightfit.cli.serve import serve
from tightfit.cli.show_speed import speed
from tightfit.cli.submitting.submit_command import submit
from tightfit.cli.upkeep import db_app, doctor, gc, work
from tightfit.cli.upload_model import upload
from tightfit.places.open_place import open_place
from tightfit.processes.unforeseen import told_unforeseen

INTERRUPTED, TERMINATED = 130, 143
app = typer.Typer(
    name="tightfit",
    no_args_is_help=True,
    pretty_exceptions_enable=False,
    rich_markup_mode="markdown",
    context_settings={"help_option_names": ["--help", "-h"]},
)
mlflow_app = typer.Typer(help="MLflow's picture of the jobs.", no_args_is_help=True, rich_markup_mode="markdown")
app.add_typer(mlflow_app, name="mlflow")
app.add_typer(db_app, name="db")
app.add_typer(token_app, name="token")


def _show_version(wanted: bool) -> None:  # noqa: FBT001 (typer calls it)
    if wanted:
        print(f"tightfit {__version__}")
        raise typer.Exit


@app.callback()
def face(
    version: Annotated[
        bool, typer.Option("--version", callback=_show_version, is_eager=True, help="Show the version.")
    ] = False,
) -> None:
    """Find how to compress a model so that it fits a memory budget and loses as little as possible."""


@app.command()
def demo(home: Home = None) -> None:
    """Search the bundled model, export the best point under the budget and verify it."""
    from tightfit.cli.installation.demo import run_demo

    run_demo(home)


@app.command(hidden=True)
def run(job: JobName, home: Home = None) -> None:
    """Run a queued job in this process."""
    from tightfit.places.at_home import AtHome

    run_here(AtHome(open_service(home)), job, home)


@app.command()
def front(
    job: NewestJob = None,
    as_json: AsJson = False,
    as_csv: Annotated[bool, typer.Option("--csv", help="Print the front as CSV.")] = False,
    html: Annotated[Path | None, typer.Option(help="Write the report page to a file.")] = None,
    explained: Annotated[bool, typer.Option("--explain", help="Add to --json why each module has its level.")] = False,
    home: Home = None,
) -> None:
    """Show a job's Pareto front."""
    if as_json and as_csv:
        raise UsageError("--json and --csv: choose one of them.")
    if explained and not as_json:
        raise UsageError("--explain adds to --json; `tightfit explain JOB` shows one point as a table.")
    place = open_place(home)
    job = chosen(place, job)
    document = place.front(job)
    if html is not None:
        from workers.bounded_files import user_path
        from workers.whole_files import writing

        html = user_path(html)
        text = place.report(job)
        with writing(html, "Give another file with --html."):
            html.write_text(text, encoding="utf-8")
        print(f"Report: {html}", file=sys.stderr)
    if as_json:
        found = {point: e.to_json() for point, e in place.explanations(job).items()} if explained else None
        print_json(document.to_json() if found is None else {**document.to_json(), "explanations": found})
    elif as_csv:
        from tightfit.report.notebook_front import front_csv

        print(front_csv(document), end="")
    elif html is None:
        from tightfit.cli.show import show_front

        show_front(document)


@app.command()
def explain(
    job: NewestJob = None,
    point: Annotated[str | None, typer.Option(help="A point of the front [default: the recommended one].")] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Show why each module has its level: its share of the loss, and what the next levels would cost."""
    from tightfit.cli.show import show_explanation

    place = open_place(home)
    job = chosen(place, job)
    found = place.explain(job, point)
    print_json(found.to_json()) if as_json else show_explanation(job, found)


_ABOUT_JOBS = (submit, upload, recover, export, exports, status, logs, study, pause, cancel, resume, describe)
for command in (*_ABOUT_JOBS, convert, student, speed, delete, serve, work, gc, doctor):
    app.command()(command)


@app.command()
def ui(
    job: NewestJob = None,
    port: Annotated[int | None, typer.Option(help="Port of the MLflow server.")] = None,
    home: Home = None,
) -> None:
    """Serve MLflow and print the address of the job's Pareto view; Ctrl-C stops it."""
    from tightfit.cli.installation.ui import serve_ui

    serve_ui(open_service(home), job, port)


@mlflow_app.command()
def sync(job: JobName, home: Home = None) -> None:
    """Rebuild MLflow's picture of a job from the store."""
    print(open_service(home).sync_mlflow(job))


def main() -> NoReturn:
    """Run the command line; errors become one sentence on stderr and an exit code."""
    show_any_character(sys.stdout)
    with suppress(ValueError):  # not in the main thread: whoever owns that decides
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(TERMINATED))  # what was begun is put in order
    try:
        app(standalone_mode=True)
    except TightfitError as error:
        print(f"tightfit: {error}", file=sys.stderr)
        sys.exit(error.exit_code)
    except KeyboardInterrupt:
        sys.exit(INTERRUPTED)
    except Exception as error:  # noqa: BLE001 (whatever it is, people get a sentence)
        print(f"tightfit: {told_unforeseen(error, home_of(sys.argv))}", file=sys.stderr)
        sys.exit(TightfitError.exit_code)
    sys.exit(0)
