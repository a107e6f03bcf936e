"""`tightfit upload`: a model of this machine sent to the service of TIGHTFIT_URL."""

import os
import sys
from pathlib import Path
from typing import Annotated

import typer

from space.errors import UsageError
from tightfit.cli.base import AsJson, print_json


def upload(
    folder: Annotated[Path, typer.Argument(help="The folder of a model: config.json, *.safetensors, tokenizer.")],
    as_json: AsJson = False,
) -> None:
    """Send a model to the service of TIGHTFIT_URL; print what `tightfit submit` names it by there."""
    if not os.environ.get("TIGHTFIT_URL"):
        raise UsageError("TIGHTFIT_URL is not set: a home reads models where they lie; `tightfit submit FOLDER` does.")
    from tightfit.client.sync_client import Client

    with Client() as client:
        model = client.upload(folder, lambda sentence: print(sentence, file=sys.stderr, flush=True))
    print_json({"model": model}) if as_json else print(model)
