"""Models of the Hugging Face hub: fetched into its cache, and pinned to the commit that was found there."""

from contextlib import suppress
from pathlib import Path

from space.errors import ModelError, in_one_line
from workers.models.companions import COMPANIONS, PAPERS

_MODEL_FILES = ("*.safetensors", "*.safetensors.index.json", "config.json")


def is_hub_name(model: str) -> bool:
    """Tell whether a name has the form `org/name[@revision]`."""
    return model.partition("@")[0].count("/") == 1


def fetch(model: str, revision: str | None = None, *, offline: bool = False) -> Path:
    """Return the folder of `org/name[@revision]` in the hub's cache; what a commit names is asked for once.

    Args:
        model: its name; the revision in it is stronger than the other one.
        revision: a branch, tag or commit; None is the default branch.
        offline: ask nobody.

    Raises:
        ModelError: the hub cannot give it, or it is not in the cache.

    """
    from huggingface_hub import snapshot_download  # slow, and only for hub names
    from huggingface_hub.errors import HfHubHTTPError, HFValidationError

    name, _, at_revision = model.partition("@")
    allowed, failures = [*_MODEL_FILES, *COMPANIONS], (HfHubHTTPError, HFValidationError, OSError)
    try:
        found = snapshot_download(
            name, revision=at_revision or revision, allow_patterns=allowed, local_files_only=offline
        )
    except failures as error:
        why = "no copy of it is in the hub's cache." if offline else f"the hub could not give it: {_first_line(error)}"
        raise ModelError(f"{model}: not a local folder, and {why}") from error
    folder = Path(found)
    with suppress(*failures):  # they only make the card of an export fuller
        snapshot_download(name, revision=commit_of(folder), allow_patterns=list(PAPERS), local_files_only=offline)
    return folder


def commit_of(folder: Path) -> str | None:
    """Return the commit that a folder of the hub's cache holds; None for other folders."""
    return folder.name if folder.parent.name == "snapshots" else None


def repository_of(folder: Path) -> str | None:
    """Return the `org/name` that a folder of the hub's cache holds a snapshot of; None for other folders."""
    kind, *parts = folder.parent.parent.name.split("--") if commit_of(folder) else [""]
    return "/".join(parts) if kind == "models" and parts else None


def pinned(model: str, revision: str | None, folder: Path) -> tuple[str, str | None]:
    """Return a hub model's name and the commit that it was resolved to: together they always mean the same content.

    Args:
        model: its name, a revision in it or not.
        revision: as asked for.
        folder: what it was resolved to.

    """
    commit = commit_of(folder)
    return (model, revision) if commit is None else (model.partition("@")[0], commit)


def _first_line(error: Exception) -> str:
    return in_one_line(error)
