"""What tests of model folders share."""

import shutil
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.workers.tiny_models import TinyKind


@pytest.fixture
def model(tiny: Callable[[TinyKind], Path], tmp_path: Path) -> Path:
    """Give a copy of a tiny model that a test may break."""
    return Path(shutil.copytree(tiny("tied"), tmp_path / "model"))
