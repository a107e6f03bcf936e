"""The command that makes a smaller model of fewer blocks."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import Annotated

import typer

from space.budget import format_bytes
from space.errors import UsageError
from tightfit.cli.base import AsJson, Home, print_json
from tightfit.cli.exports import tell_on_stderr
from tightfit.cli.submitting import submit_options as asked


def student(
    model: Annotated[str, typer.Argument(help="A local folder, `org/name[@revision]`, or `bundled`.")],
    blocks: Annotated[int, typer.Option(help="Blocks that it keeps.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    minutes: Annotated[float, typer.Option(help="Of training, at most.")] = 20.0,
    calibration: asked.Calibration = None,
    sequence_length: asked.SequenceLength = None,
    num_sequences: Annotated[int, typer.Option(help="Sequences of text to train on.")] = 1024,
    seed: asked.Seed = 0,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Make a smaller model: cut blocks out, train what is left towards the whole model's answers, and write it."""
    from tightfit.config import load_settings
    from tightfit.students.make_student import StudentWish, make_student

    if home is None and os.environ.get("TIGHTFIT_URL"):
        raise UsageError("A service makes no students: name a home of this machine with --home.")
    settings = load_settings(home)
    settings.make_home()
    wish = StudentWish(model, blocks, out, minutes, calibration, sequence_length, num_sequences, seed)
    found = make_student(wish, settings.cache_folder, tell_on_stderr)
    if as_json:
        print_json(asdict(found))
        return
    low, high = found.kl_divergence_ci95
    print(f"A student of blocks {', '.join(map(str, found.blocks))}: {found.path}")
    print(f"  size      {found.size_bytes:,} bytes ({format_bytes(found.size_bytes)}), of {found.dense_bytes:,}")
    print(f"  quality   {found.metric}: {found.kl_divergence:.4f} (95 % {low:.4f} to {high:.4f})")
    print(f"  training  {found.steps} steps, the best one {found.kept_step}, {found.seconds / 60:.1f} min")
    print(f"Next: tightfit submit {found.path} --budget 50%")
