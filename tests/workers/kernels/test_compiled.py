"""Compiled loops: a new process finds those of an earlier one, with all that they call."""

import json
import subprocess
import sys
from pathlib import Path

from workers.compress.builders import row_feedback

LOOK = """
import json
import numpy as np
from workers.compress.builders.row_feedback import round_integers
from workers.kernels.compiled import compiled
one = np.ones((1, 4), np.float32)
loop = compiled(round_integers)
codes = loop(one, one, one, np.ones(1, np.float32), np.eye(4, dtype=np.float32)[None], np.zeros(1, np.int64))
print(json.dumps([sum(loop.stats.cache_hits.values()), sum(loop.stats.cache_misses.values()), codes.tolist()]))
"""


def test_another_process_finds_them(tmp_path: Path) -> None:
    """Compiled once, also where one calls others of its file."""
    found = []
    for _ in range(2):
        done = subprocess.run(
            [sys.executable, "-c", LOOK],
            capture_output=True,
            text=True,
            check=True,
            env={"NUMBA_CACHE_DIR": str(tmp_path), "PATH": ""},
            cwd=Path(row_feedback.__file__).parents[3],
        )
        found.append(json.loads(done.stdout))
    assert found == [[0, 1, [[0.0] * 4]], [1, 0, [[0.0] * 4]]]
