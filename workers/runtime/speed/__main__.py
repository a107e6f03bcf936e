"""Measure an export in a fresh process, which a runtime may end: one JSON request on stdin, one answer on stdout."""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict
from pathlib import Path

from space.errors import TightfitError
from space.plan import Plan
from workers.runtime.speed.runner_table import RUNNERS
from workers.runtime.speed.timing import Course, measured


def main() -> None:
    """Answer; what cannot be measured is one sentence."""
    asked = json.loads(sys.stdin.read())
    course = Course(
        Path(asked["folder"]),
        Plan.from_json(asked["plan"]),
        tuple(asked["prompt"]),
        asked["num_tokens"],
        asked["threads"],
        asked["runs"],
    )
    with redirect_stdout(sys.stderr):
        try:
            with RUNNERS[asked["target"]](course) as (runtime, runner):
                answer = asdict(measured(runtime, runner, course))
        except TightfitError as error:
            answer = {"refused": str(error)}
    print(json.dumps(answer))


if __name__ == "__main__":
    main()
