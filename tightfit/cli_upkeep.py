"""The commands that keep an installation in order: the database's version."""

import typer

from tightfit.cli_base import Home

db_app = typer.Typer(help="The version of the database's tables.", no_args_is_help=True)


@db_app.command()
def check(home: Home = None) -> None:
    """Compare the database with this program, changing nothing; exit code 4 unless they fit."""
    from storage.open import check_version  # noqa: PLC0415 (keeps --help fast)
    from tightfit.config import load_settings  # noqa: PLC0415

    print(f"The database {check_version(load_settings(home).database_url)} has this program's tables.")


@db_app.command()
def upgrade(home: Home = None) -> None:
    """Bring the database to this program's version; every other command that opens it does so too."""
    from storage.open import check_version, open_store  # noqa: PLC0415
    from tightfit.config import load_settings  # noqa: PLC0415

    url = load_settings(home).database_url
    open_store(url).close()
    print(f"The database {check_version(url)} has this program's tables.")
