"""The commands that keep an installation going and in order: work, the database's version, the disk."""

import sys
from typing import Annotated

import typer

from tightfit.cli.base import AsJson, Home, Workers, open_service, print_json

REST_SECONDS = 60.0
"""After so long without a job, what jobs loaded is let go; the next one loads it again, which takes seconds."""
db_app = typer.Typer(help="The version of the database's tables.", no_args_is_help=True)


@db_app.command()
def check(home: Home = None) -> None:
    """Compare the database with this program, changing nothing; exit code 4 unless they fit."""
    from storage.open_store import check_version
    from tightfit.config import load_settings

    print(f"The database {check_version(load_settings(home).database_url)} has this program's tables.")


@db_app.command()
def upgrade(home: Home = None) -> None:
    """Bring the database to this program's version; every other command that opens it does so too."""
    from storage.open_store import check_version, open_store
    from tightfit.config import load_settings

    url = load_settings(home).database_url
    open_store(url).close()
    print(f"The database {check_version(url)} has this program's tables.")


def gc(
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Only say what would be freed.")] = False,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Free what no job needs: fronts can still be exported, and what a running or paused job uses stays."""
    from space.budget import format_bytes

    freed = open_service(home).free_unneeded(dry_run=dry_run)
    if as_json:
        print_json(freed.to_json())
        return
    if freed.num_files:
        print(f"{'Would free' if dry_run else 'Freed'} {format_bytes(freed.size_bytes)} in {freed.num_files} files.")
    else:
        print("Nothing to free.")
    if freed.num_levels:
        verb = "would be" if dry_run else "were"
        print(f"{freed.num_levels} of them {verb} levels: the next budget on the same model builds its levels again.")
    if freed.needed_bytes:
        print(f"Kept {format_bytes(freed.needed_bytes)}: exports of the fronts of finished jobs need it.")
    for folder, why in freed.kept.items():
        print(f"Kept {folder}: {why}.")


def work(
    until_idle: Annotated[bool, typer.Option("--until-idle", help="End once nothing is queued or running.")] = False,
    workers: Workers = None,
    home: Home = None,
) -> None:
    """Run queued jobs and exports; any number of these may serve one database, on any number of machines."""
    from tightfit.listen import TerminalListener
    from tightfit.processes.afresh import begin_afresh

    service, heard = open_service(home, create=True), TerminalListener()
    rest = None if until_idle else REST_SECONDS
    count = service.serve(heard, until_idle=until_idle, num_workers=workers, tell=heard.tell, rest_seconds=rest)
    if until_idle:
        print(f"{count} jobs were run; none is left.", file=sys.stderr)
        return
    service.store.close()
    heard.tell("nothing waits; what jobs loaded is let go")
    begin_afresh()


def doctor(as_json: AsJson = False, home: Home = None) -> None:
    """Check the installation: versions, folders, database, workers, MLflow."""
    from tightfit.cli.installation.doctor import examine, show_findings

    findings = examine(home)
    print_json([f.to_json() for f in findings]) if as_json else show_findings(findings)
    if not all(f.ok for f in findings):
        raise typer.Exit(4)
