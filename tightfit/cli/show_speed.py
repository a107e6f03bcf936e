"""The command that measures how fast an export runs here."""

from typing import Annotated, Any

import typer

from tightfit.cli.base import AsJson, print_json


def speed(
    folder: Annotated[str, typer.Argument(help="An export, a folder of a model, or `bundled`.")],
    prompt: Annotated[int, typer.Option(min=1, help="Tokens that are read at once.")] = 128,
    tokens: Annotated[int, typer.Option(min=1, help="Tokens that follow, one at a time.")] = 64,
    threads: Annotated[int, typer.Option(min=0, help="Of the runtime, on a CPU; 0: all cores.")] = 0,
    runs: Annotated[int, typer.Option(min=1, help="That count, after one that does not.")] = 5,
    as_json: AsJson = False,
) -> None:
    """Measure how fast an export makes text on this machine, in the runtime that it is for."""
    from tightfit.export.speed import SpeedWish
    from tightfit.export.speed import speed as measure

    found = measure(SpeedWish(folder, prompt, tokens, threads, runs))
    print_json(found) if as_json else _show(found)


def _show(found: dict[str, Any]) -> None:
    machine = found["machine"]
    print(f"{found['path']} in {found['runtime']} ({machine['processor']}, {machine['threads']} threads)")
    print(f"  prompt of {found['num_prompt']} tokens   {_told(found['prefill'])}")
    print(f"  one token at a time    {_told(found['decode'])}")


def _told(rate: dict[str, float]) -> str:
    low, high = rate["slowest"], rate["fastest"]
    return f"{rate['tokens_per_second']:,.1f} tokens per second ({low:,.1f} to {high:,.1f})"
