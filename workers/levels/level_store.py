"""The level store: every (module, level) of a model made once, packed, on disk, memory-mapped when read.

A level's file name is the digest of all that decides its bytes: model, calibration tokens, module, level and version
of what builds it. Files are whole or absent, so any number of workers and jobs may share a store. A file holds the
digest of its tensors, which each process checks when it first reads it: what a disk damaged is deleted and built again.
"""

import hashlib
import json
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from safetensors import SafetensorError, safe_open

from space.digest import digest
from space.errors import LevelDamagedError
from space.level import Level, parse_level
from space.plan import Plan
from workers.compress.versions import level_version, newest_version
from workers.tasks import BuildLevels, LevelRecord
from workers.whole_files import write_safetensors, write_text

if TYPE_CHECKING:
    import torch
    from torch import Tensor

    from workers.compress.build import BuiltLevel


_checked: set[tuple[Path, int, int]] = set()  # files, as they are, whose digest this process has seen to be right


def _content_digest(tensors: "Mapping[str, Tensor]", metadata: Mapping[str, str]) -> str:
    """Return the sha256 over metadata, and names, types, shapes and bytes of tensors."""
    import torch

    whole = hashlib.sha256(json.dumps(sorted(metadata.items())).encode())
    for name, tensor in sorted(tensors.items()):
        whole.update(f"{name} {tensor.dtype} {list(tensor.shape)}\n".encode())
        whole.update(tensor.contiguous().flatten().view(torch.uint8).numpy().data)
    return whole.hexdigest()


def _damaged(path: Path, module_name: str, level: Level) -> LevelDamagedError:
    told = "was damaged and is deleted" if path.exists() else "is not there"
    path.unlink(missing_ok=True)
    text = f"Level {level} of {module_name} {told} ({path}): `tightfit resume` of its job builds it again."
    return LevelDamagedError(text, module_name)


_WHOLE_VALUES = 2**24  # of a weight; of a larger one some rows are unpacked at a time


@dataclass(frozen=True, slots=True)
class LevelStore:
    """Levels of one model under one calibration.

    Attributes:
        folder: where the files are.
        model_digest: content of the model.
        calibration_digest: the calibration tokens.
        device: where weights are unpacked.

    """

    folder: Path
    model_digest: str
    calibration_digest: str
    device: str = "cpu"

    def path(self, module_name: str, level: Level) -> Path:
        """Return a level's file."""
        key = digest([self.model_digest, self.calibration_digest, module_name, str(level), level_version(level)])
        return self.folder / f"{key[:2]}" / f"{key}.safetensors"

    def write(self, module_name: str, built: "BuiltLevel") -> None:
        """Store a built level."""
        metadata = {"module": module_name, "level": str(built.level), "output_error": repr(built.output_error)}
        tensors = {name: tensor.cpu() for name, tensor in built.tensors.items()}
        metadata["digest"] = _content_digest(tensors, metadata)
        write_safetensors(self.path(module_name, built.level), tensors, metadata)

    def output_error(self, module_name: str, level: Level) -> float | None:
        """Return the calibrated output error of a stored level, or None where it is not (or no longer whole)."""
        path = self.path(module_name, level)
        if not path.exists():
            return None
        try:
            with safe_open(path, framework="numpy") as file:  # needs no torch
                return float(file.metadata()["output_error"])
        except (SafetensorError, KeyError, ValueError, TypeError):  # not whole, or no metadata at all
            path.unlink(missing_ok=True)
            return None

    def missing(self, plan: Plan) -> list[tuple[str, Level]]:
        """Return the levels of a plan that are not here, with their modules."""
        return [(n, v) for n, v in plan.levels if v.is_stored and not self.path(n, v).exists()]

    def tensors(self, module_name: str, level: Level) -> "dict[str, Tensor]":
        """Return a level's packed tensors, memory-mapped.

        Raises:
            LevelDamagedError: the file has gone, or was damaged and is deleted now.

        """
        path = self.path(module_name, level)
        try:
            status = path.stat()
            key = (path, status.st_ino, status.st_mtime_ns)
            with safe_open(path, framework="pt") as file:
                found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
                metadata = dict(file.metadata() or {})
        except (SafetensorError, OSError) as error:
            raise _damaged(path, module_name, level) from error
        if key not in _checked:
            written = metadata.pop("digest", None)
            is_older = written is None and metadata.keys() == {"module", "level", "output_error"}
            if not is_older and written != _content_digest(found, metadata):
                raise _damaged(path, module_name, level)
            _checked.add(key)
        return found

    def weight(self, module_name: str, level: Level, shape: "torch.Size") -> "Tensor":
        """Return the (O, I) float32 weight of a level, on the store's device and unpacked there, as exports are."""
        import torch

        from workers.kernels.unpack import unpack

        tensors = {name: tensor.to(self.device) for name, tensor in self.tensors(module_name, level).items()}
        if shape.numel() <= _WHOLE_VALUES or level.rank:  # a product of matrices rounds by its number of rows
            return unpack(tensors, level, shape[1])
        weight = torch.empty(shape, device=self.device)
        for rows in torch.arange(shape[0], device=self.device).split(max(1, _WHOLE_VALUES // shape[1])):
            weight[rows[0] : rows[-1] + 1] = unpack(tensors, level, shape[1], rows)
        return weight

    def _records_path(self, task: BuildLevels) -> Path:
        sizes = {str(level): size for level, size in task.sizes}
        required = sorted(str(level) for level in task.required)
        version = newest_version(level for level, _ in task.sizes)
        key = digest([self.model_digest, self.calibration_digest, task.module_name, sizes, required, version])
        return self.folder / f"{key[:2]}" / f"{key}.json"

    def write_records(self, task: BuildLevels, records: tuple[LevelRecord, ...]) -> None:
        """Remember the answer to a task."""
        rows = [[str(r.level), r.size_bytes, r.output_error] for r in records]
        write_text(self._records_path(task), json.dumps(rows))

    def read_records(self, task: BuildLevels) -> tuple[LevelRecord, ...] | None:
        """Return the remembered answer to a task, or None where it is unknown or a level has gone."""
        try:
            rows = json.loads(self._records_path(task).read_text(encoding="utf-8"))
            records = tuple(LevelRecord(parse_level(text), size, error) for text, size, error in rows)
        except (OSError, ValueError, TypeError):  # not there, or damaged
            return None
        whole = all(self.output_error(task.module_name, r.level) is not None for r in records if r.level.is_stored)
        return records if records and whole else None
