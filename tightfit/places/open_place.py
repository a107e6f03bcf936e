"""Which place a command means: the home that it names, the service of TIGHTFIT_URL, or the usual home."""

import os
from pathlib import Path
from typing import TYPE_CHECKING

from space.errors import NotFoundError

if TYPE_CHECKING:
    from tightfit.places.place import Place
    from tightfit.service import Service


def open_place(home: Path | None = None, *, create: bool = False, needed: bool = True) -> "Place":
    """Return the place of a command.

    Args:
        home: as named; it is meant then, whatever the environment says.
        create: a home may be made.
        needed: a home must be there otherwise; what only looks at a model needs none.

    Raises:
        NotFoundError: the named home is not there.

    """
    if home is None and os.environ.get("TIGHTFIT_URL"):
        from tightfit.client.sync_client import Client
        from tightfit.places.at_service import AtService

        return AtService(Client(), os.environ["TIGHTFIT_URL"])
    from tightfit.places.at_home import AtHome

    return AtHome(open_home(home, create=create, needed=needed))


def open_home(home: Path | None = None, *, create: bool = False, needed: bool = True) -> "Service":
    """Return the service object of a home; None is the usual one. Raises NotFoundError; see `open_place`."""
    from storage.open_store import is_there
    from tightfit.config import load_settings
    from tightfit.service import Service

    settings = load_settings(home)
    if home is not None and needed and not create and not is_there(settings.database_url):
        raise NotFoundError(f"--home {home}: no job was submitted there yet; check the name, or submit one first.")
    return Service(settings, create=create)
