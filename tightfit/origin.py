"""Where this program comes from: its repository and commit, as far as an installation tells them."""

import json
import os
import re
import subprocess
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, distribution
from pathlib import Path
from urllib.parse import urlsplit

NOTE = "built_from.json"
"""beside this file, where it was installed from a wheel: what that was built from"""
_ROOT = Path(__file__).resolve().parent.parent
_GIT_SECONDS = 10


@dataclass(frozen=True, slots=True)
class Origin:
    """A program's source: `url` of its repository for `git clone`, `commit`, and whether files differ from that."""

    url: str | None = None
    commit: str | None = None
    is_changed: bool = False


def origin() -> Origin:
    """Return where this program comes from: as pip, the checkout that it runs from, or its wheel tells it."""
    return _installed() or _checked_out() or _noted() or Origin()


def _installed() -> Origin | None:
    """Return what pip recorded (PEP 610) where it installed from a repository."""
    try:
        recorded = json.loads(distribution("tightfit").read_text("direct_url.json") or "{}")
    except (PackageNotFoundError, ValueError):
        return None
    commit = recorded.get("vcs_info", {}).get("commit_id")
    return Origin(public_url(str(recorded.get("url"))), commit) if commit else None


def _checked_out() -> Origin | None:
    top = _git("rev-parse", "--show-toplevel")
    if top is None or Path(top).resolve() != _ROOT:  # no checkout, or one of something else that this lies in
        return None
    url, changes = _git("remote", "get-url", "origin"), _git("status", "--porcelain", "--untracked-files=no")
    return Origin(public_url(url) if url else None, _git("rev-parse", "HEAD"), bool(changes))


def _noted() -> Origin | None:
    try:
        return Origin(**json.loads((_ROOT / "tightfit" / NOTE).read_text(encoding="utf-8")))
    except (OSError, ValueError, TypeError):
        return None


def _git(*arguments: str) -> str | None:
    """Return what git says, None where it says nothing useful."""
    environment = {name: value for name, value in os.environ.items() if not name.startswith("GIT_")}
    try:
        done = subprocess.run(  # noqa: S603
            ["git", "-C", str(_ROOT), *arguments],  # noqa: S607 (whichever git the user has)
            capture_output=True,
            text=True,
            timeout=_GIT_SECONDS,
            check=False,
            env=environment,
        )
    except (OSError, subprocess.SubprocessError):
        return None
    return done.stdout.strip() if done.returncode == 0 else None


def public_url(url: str) -> str | None:
    """Return a repository's address without names and passwords, None for one that only this machine can reach."""
    if at := re.fullmatch(r"[\w.-]+@([\w.-]+):(?!/)(.+)", url):
        return f"https://{at[1]}/{at[2]}"
    try:
        parts = urlsplit(url.removeprefix("git+"))
        host, number = parts.hostname or "", parts.port
    except ValueError:  # not an address
        return None
    if parts.scheme not in ("http", "https", "ssh", "git") or host in ("", "localhost", "127.0.0.1", "::1"):
        return None
    scheme, port = ("https", "") if parts.scheme == "ssh" else (parts.scheme, f":{number}" if number else "")
    return f"{scheme}://{host}{port}{parts.path}"
