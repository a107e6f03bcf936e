"""Notes in a wheel what it was built from, which the model cards of exports tell; all else is in pyproject.toml."""

import json
import sys
from dataclasses import asdict
from pathlib import Path

from setuptools import setup
from setuptools.command.build_py import build_py

sys.path.insert(0, str(Path(__file__).resolve().parent))

from tightfit.origin import NOTE, origin


class BuildPy(build_py):
    """Copies the packages, and adds the note."""

    def run(self) -> None:
        """Do so, but for an installation that runs from the checkout itself."""
        super().run()
        if not self.editable_mode:
            (Path(self.build_lib) / "tightfit" / NOTE).write_text(json.dumps(asdict(origin())), encoding="utf-8")


setup(cmdclass={"build_py": BuildPy})
