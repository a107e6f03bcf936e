"""A step of the check: the tests that are marked `gpu`; for a CPU, what of their file runs there in seconds."""

import subprocess
import sys
import time
from xml.etree import ElementTree as ET

from benchmarks.gpu.figures import Figures, figures_of_arguments

_FILE = "tests/workers/test_gpu.py"
_END_SECONDS = 5.0


def main() -> int:
    """Run pytest, and read its report."""
    figures = figures_of_arguments()
    report = figures.work / "tests.xml"
    chosen = ["-k", "cuda or refuses"] if figures.is_small else ["-m", "gpu"]
    command = [sys.executable, "-m", "pytest", _FILE, *chosen, "-p", "pytest_timeout", "-p", "no:cacheprovider"]
    with figures.part("tests", is_timed=False):
        limit = max(1.0, figures.deadline - time.monotonic() - _END_SECONDS)
        status = subprocess.run([*command, f"--junitxml={report}"], timeout=limit, check=False).returncode
        _read(figures, ET.parse(report).getroot())  # noqa: S314 (pytest's, written just now)
        if status:
            figures.fail(f"pytest ended with {status}")
    return figures.end()


def _read(figures: Figures, report: ET.Element) -> None:
    cases = list(report.iter("testcase"))
    missed = [case for case in cases if case.find("failure") is not None or case.find("error") is not None]
    skipped = sum(case.find("skipped") is not None for case in cases)
    figures.add("tests passed", len(cases) - len(missed) - skipped)
    figures.add("tests failed", len(missed))
    figures.add("tests skipped", skipped)
    for case in missed:
        figures.fail(str(case.get("name")))
    if skipped and not figures.is_small:
        figures.fail("tests were skipped")


if __name__ == "__main__":
    sys.exit(main())
