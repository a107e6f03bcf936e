"""Which models and texts the service reads: the bundled ones, those in allowed folders, and pinned ones of the hub."""

import os
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from space.errors import CalibrationError, ModelError, UsageError
from space.spec import JobSpec
from workers.bounded_files import user_path
from workers.models.model_files import BUNDLED
from workers.text.text_sources import STDLIB

_HUB = re.compile(r"(?!.*\.\.)[A-Za-z0-9][\w.-]*/[A-Za-z0-9][\w.-]*")
_COMMIT = re.compile(r"[0-9a-f]{40}")
_MOST_ENTRIES = 10_000


@dataclass(frozen=True, slots=True)
class AllowedModels:
    """Folders whose models and texts may be read, and whatever lies in them; no link leads out of them."""

    folders: Sequence[Path] = ()

    def check(self, spec: JobSpec) -> None:
        """Refuse a request for what may not be read.

        Raises:
            ModelError: the model is none of the allowed ones, or a file of it lies elsewhere.
            CalibrationError: so is the text.

        """
        if spec.model != BUNDLED:
            self._check_model(spec.model, spec.revision)
        if spec.calibration not in (None, STDLIB) and not self._holds(str(spec.calibration)):
            raise CalibrationError(
                f"calibration {_shown(str(spec.calibration))}: the service reads `{STDLIB}`, the model's own samples "
                f"(null), and files in {self._told()}."
            )

    def _check_model(self, model: str, revision: str | None) -> None:
        if self._holds(model):
            self._check_files(Path(model))
            return
        name, _, at = model.partition("@")
        is_hub_name = _HUB.fullmatch(name) is not None and not Path(name).exists()
        if not is_hub_name:
            raise ModelError(
                f"model {_shown(model)}: the service reads `{BUNDLED}`, `org/name` of the hub at a commit, and folders "
                f"in {self._told()}."
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


def _shown(text: str) -> str:
    return ascii(text if len(text) <= 100 else f"{text[:100]}...")  # noqa: PLR2004 (characters)
