"""tightfit: find how to compress a model so that it fits a memory budget and loses as little as possible."""

from importlib.util import find_spec
from pathlib import Path
from typing import TYPE_CHECKING, Any

_ROOT = Path(__file__).resolve().parent.parent
for _name in ("space", "storage", "workers", "search"):
    _spec = find_spec(_name)
    if _spec is None or _spec.origin is None or Path(_spec.origin).resolve().parent.parent != _ROOT:
        raise ImportError(
            f"tightfit needs its own package {_name!r} beside it, but Python finds {_spec and _spec.origin}. "
            "Rename that file or folder, or run from another one."
        )

if TYPE_CHECKING:
    from space.errors import TightfitError
    from space.spec import JobSpec
    from tightfit.client.async_client import AsyncClient
    from tightfit.client.sync_client import Client
    from tightfit.service import Service

__version__ = "0.1.0"
__all__ = ["AsyncClient", "Client", "JobSpec", "Service", "TightfitError", "__version__"]
_LAZY = {
    "AsyncClient": "tightfit.client.async_client",
    "Client": "tightfit.client.sync_client",
    "JobSpec": "space.spec",
    "Service": "tightfit.service",
    "TightfitError": "space.errors",
}


def __getattr__(name: str) -> Any:
    """Import public names on first use, so that `tightfit --help` and `import tightfit` stay light."""
    if name in _LAZY:
        from importlib import import_module  # kept out of the namespace

        return getattr(import_module(_LAZY[name]), name)
    raise AttributeError(f"module 'tightfit' has no attribute {name!r}")
