"""Which models and texts the service reads: bundled, uploaded, in allowed folders, and pinned ones of the hub."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from space.errors import CalibrationError, ModelError, NotFoundError, StateError, UsageError
from space.spec import JobSpec
from tightfit.http.callers import Caller
from tightfit.uploads.upload_store import SCHEME, Upload, UploadStore
from workers.bounded_files import user_path
from workers.models.model_files import BUNDLED
from workers.text.text_sources import STDLIB

_HUB = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class AllowedModels:
    """Folders whose models and texts may be read, and whatever lies in them; no link leads out of them.

    Attributes:
        uploads: models that were sent: each is for its user.
        folders: for everybody.

    """

    uploads: UploadStore
    folders: Sequence[Path] = ()

    def resolved(self, spec: JobSpec, caller: Caller) -> JobSpec:
        """Return a request with the folder of its model, where that was uploaded; refuse what may not be read.

        Raises:
            ModelError: the model is none of the allowed ones, or a file of it lies elsewhere.
            CalibrationError: so is the text.
            NotFoundError, StateError: it is an upload that the caller may not see, or that is not all there.

        """
        upload_id = self.uploads.holds(spec.model)
        if upload_id is not None:
            spec = spec.model_copy(update={"model": str(self._uploaded(upload_id, caller))})
        elif spec.model != BUNDLED:
            self._check_model(spec.model, spec.revision)
        self.check_text(spec.calibration, "calibration", "the model's own samples")
        self._check_file(spec.judge, "judge", "no questions (null)")
        return spec

    def check_text(self, text: str | None, field: str, otherwise: str) -> None:
        """Refuse a text that may not be read; null means what `otherwise` says. Raises CalibrationError."""
        if text != STDLIB:
            self._check_file(text, field, f"`{STDLIB}`, {otherwise} (null)")

    def _check_file(self, path: str | None, field: str, otherwise: str) -> None:
        if path is not None and not self._holds(path):
            raise CalibrationError(
                f"{field} {_shown(path)}: the service reads {otherwise}, and files in {self._told()}."
            )

    def _uploaded(self, upload_id: str, caller: Caller) -> Path:
        found = seen_upload(self.uploads, caller, upload_id)
        if not found.is_ready:
            missing = next(file for file in found.announced.files if found.received[file.name] < file.size_bytes)
            told = f"not all of it is here yet, such as {missing.name}. Send the rest first."
            raise StateError(f"{SCHEME}{upload_id}: {told}")
        return found.folder

    def _check_model(self, model: str, revision: str | None) -> None:
        if self._holds(model):
            self._check_files(Path(model))
            return
        name, _, at = model.partition("@")
        is_hub_name = _HUB.fullmatch(name) is not None and not Path(name).exists()
        if not is_hub_name:
            raise ModelError(
                f"model {_shown(model)}: the service reads `{BUNDLED}`, uploads (`{SCHEME}ID`), `org/name` of the hub "
                f"at a commit, and folders in {self._told()}."
            )
        if _COMMIT.fullmatch(at or revision or "") is None:
            raise ModelError(
                f"model {_shown(model)}: name the commit of the hub's model, 40 hexadecimal digits, as `revision`: "
                "what a branch or tag holds may be another model tomorrow."
            )

    def _holds(self, text: str) -> bool:
        """Tell whether a path, links resolved, lies in an allowed folder."""
        try:
            path = Path(text)
            real = user_path(path).resolve() if path.is_absolute() else None
        except (UsageError, OSError, ValueError):
            return False
        return real is not None and any(real.is_relative_to(folder.resolve()) for folder in self.folders)

    def _check_files(self, folder: Path) -> None:
        """Refuse a folder with a link that leads out, or with more than any model has."""
        count = 0
        for place, folders, files in os.walk(folder.resolve()):
            for name in (*folders, *files):
                count += 1
                path = Path(place, name)
                if path.is_symlink() and not self._holds(str(path)):
                    raise ModelError(f"{path}: a link that leads out of {self._told()}. Put the file itself there.")
            if count > _MOST_ENTRIES:
                raise ModelError(f"{folder}: holds more than {_MOST_ENTRIES:,} files. Name the folder of one model.")

    def _told(self) -> str:
        return ", ".join(map(str, self.folders)) or "folders that `tightfit serve --models FOLDER` names (none yet)"


def seen_upload(uploads: UploadStore, caller: Caller, upload_id: str) -> Upload:
    """Return an upload that a caller may see. Raises NotFoundError, the same for one that is another user's."""
    found = uploads.find(upload_id)
    if not caller.sees(found.announced.user):
        raise NotFoundError(f"There is no upload {upload_id!a} of yours. GET /v1/uploads lists those there are.")
    return found


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 100 else f"{text[:100]}...")  # noqa: PLR2004 (characters)
