"""The command that applies a plan without a search."""

import os
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from space.errors import UsageError
from space.targets.target_table import TARGETS
from tightfit.cli.base import AsJson, Home, print_json
from tightfit.cli.exports import tell_on_stderr
from tightfit.cli.submitting import submit_options as asked
from tightfit.cli.submitting.submit_options import one_of

if TYPE_CHECKING:
    from tightfit.converting.convert import Converted


def convert(
    model: Annotated[str, typer.Argument(help="A local folder, `org/name[@revision]`, or `bundled`.")],
    plan: Annotated[str, typer.Option(help="File of a plan (docs/search.md).")],
    target: Annotated[str, one_of(tuple(TARGETS), help="What it is written as.")],
    out: Annotated[Path, typer.Option(help="A new folder.")],
    calibration: asked.Calibration = None,
    sequence_length: asked.SequenceLength = None,
    num_sequences: asked.NumSequences = None,
    seed: asked.Seed = 0,
    as_json: AsJson = False,
    home: Home = None,
) -> None:
    """Apply a plan without a search: build its levels, write them and verify them by loading them again."""
    from tightfit.config import load_settings
    from tightfit.converting.convert import convert as apply
    from tightfit.converting.convert_wish import ConvertWish

    if home is None and os.environ.get("TIGHTFIT_URL"):
        raise UsageError("A service converts nothing yet: name a home of this machine with --home.")
    settings = load_settings(home)
    settings.make_home()
    wish = ConvertWish(model, plan, target, out, calibration, sequence_length, num_sequences, seed)
    found = apply(wish, settings.cache_folder, tell_on_stderr)
    print_json(asdict(found)) if as_json else _show(found)


def _show(found: "Converted") -> None:
    from tightfit.cli.show import show_verified

    print(f"Converted as {found.format} to {found.path}")
    header = found.file_bytes - found.size_bytes
    print(f"  size      {found.size_bytes:,} bytes, as predicted; the container's header takes {header:,} more")
    kl = f"  quality   KL {found.kl_divergence:.6f} (before it was written {found.recorded_kl_divergence:.6f})"
    print(found.metric.told(kl))
    show_verified(found)
