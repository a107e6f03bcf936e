"""The command that measures how fast exports, and the points of a front, run here."""

import os
from collections.abc import Iterable
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from space.errors import UsageError
from tightfit.cli.base import AsJson, Home, open_service, print_json

if TYPE_CHECKING:
    from tightfit.jobs.front_speeds import PointSpeed


def speed(
    what: Annotated[str, typer.Argument(help="An export, a model's folder, `bundled`, or a job: its front.")],
    prompt: Annotated[int, typer.Option(min=1, help="Tokens that are read at once.")] = 128,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that follow, one at a time.")] = 64,
    threads: Annotated[int, typer.Option(min=0, help="Of the runtime, on a CPU; 0: all cores.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="That count, after one that does not.")] = 5,
    at_least: Annotated[
        float | None,
        typer.Option(
            "--min-tokens-per-second", help="Of a job: find the best point within its budget that goes on so fast."
        ),
    ] = None,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Measure how fast an export, or each point of a front, makes text on this machine, in its own runtime."""
    from tightfit.export.speed import SpeedWish
    from tightfit.export.speed import speed as measure

    wish = SpeedWish(what, prompt, tokens, threads, runs)
    if what == "bundled" or Path(what).exists():
        if at_least is not None:
            raise UsageError("--min-tokens-per-second chooses among the points of a job: name one.")
        found = measure(wish)
        print_json(found) if as_json else _show(found)
        return
    if home is None and os.environ.get("TIGHTFIT_URL"):
        raise UsageError(
            "Speed is measured on this machine, where the service's files are not: name a home with --home."
        )
    from tightfit.jobs.front_speeds import fast_enough, front_speeds

    service = open_service(home)
    job, document = service.store.get_job(what), service.front(what)
    plans = service.plans(document)
    points = (
        front_speeds(job, document, plans, wish)
        if at_least is None
        else fast_enough(job, document, plans, wish, at_least)
    )
    if as_json:
        print_json([asdict(found) for found in points])
        return
    last = _show_points(points)
    if at_least is not None and last is not None:
        print(f"{last.point} is fast enough. Export it with\n  tightfit export {what} --point {last.point} --out DIR")


def _show_points(points: "Iterable[PointSpeed]") -> "PointSpeed | None":
    """Print a line for each point as it is measured; return the last one."""
    last = None
    for found in points:
        if last is None:
            machine = found.speed["machine"]
            print(f"In {found.speed['runtime']} ({machine['processor']}, {machine['threads']} threads)")
        last = found
        decode = _told(found.speed["decode"])
        print(f"  {found.point:<5} {found.size_bytes:>15,} bytes  KL {found.kl_divergence:.5f}  {decode}", flush=True)
    return last


def _show(found: dict[str, Any]) -> None:
    machine = found["machine"]
    print(f"{found['path']} in {found['runtime']} ({machine['processor']}, {machine['threads']} threads)")
    print(f"  prompt of {found['num_prompt']} tokens   {_told(found['prefill'])}")
    print(f"  one token at a time    {_told(found['decode'])}")


def _told(rate: dict[str, float]) -> str:
    low, high = rate["slowest"], rate["fastest"]
    return f"{rate['tokens_per_second']:,.1f} tokens per second ({low:,.1f} to {high:,.1f})"
