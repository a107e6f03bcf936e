"""What is shipped beside the package names files that are there, and commands and settings that the program has."""

import re
import tomllib
from pathlib import Path

import pytest
import typer

from tightfit.cli.app import app
from tools.container_steps import CONTAINERFILE, instructions

ROOT = Path(__file__).resolve().parent.parent
UNITS = sorted((ROOT / "deploy" / "systemd").glob("*.service"))
SETTINGS = {"TIGHTFIT_HOME", "TIGHTFIT_DATABASE_URL", "MLFLOW_TRACKING_URI", "RAY_ADDRESS", "RAY_HEAD"}
COMMAND = re.compile(r"\btightfit (?:serve|work|token add)[^\n\"&`]*")


def test_an_image_holds_every_package() -> None:
    """All that a wheel is made of is copied, and nothing that is not there."""
    steps = list(instructions(CONTAINERFILE.read_text(encoding="utf-8")))
    copied = {source for name, found in steps if name == "COPY" for source in found.split()[:-1]}
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    packages = {name for name in project["tool"]["setuptools"]["packages"]["find"]["include"] if "." not in name}
    assert packages | {"pyproject.toml", "setup.py", "constraints.txt", "README.md", "LICENSE"} == copied
    assert all((ROOT / source).exists() for source in copied)
    assert [name for name, _ in steps].count("FROM") == 1


@pytest.mark.parametrize("path", [*UNITS, CONTAINERFILE, ROOT / "deploy" / "compose.yaml", ROOT / "docs" / "deploy.md"])
def test_commands_that_are_shipped_are_there(path: Path) -> None:
    """Every option of ours that a unit or a container is started with is one that the command has."""
    commands = typer.main.get_command(app).commands  # type: ignore[attr-defined]
    text = path.read_text(encoding="utf-8").replace('", "', " ")
    for line in COMMAND.findall(text):
        words = [word for word in line.split() if not word.startswith("-")]
        verb = commands[words[1]]
        verb = verb.commands.get(words[2], verb) if hasattr(verb, "commands") else verb
        known = {option for parameter in verb.params for option in parameter.opts}
        assert {word for word in line.split() if word.startswith("--")} <= known


def test_settings_of_units_are_known() -> None:
    """Each is one that the program, MLflow or Ray reads."""
    text = (ROOT / "deploy" / "systemd" / "environment.example").read_text(encoding="utf-8")
    names = set(re.findall(r"^#?([A-Z_]+)=", text, re.MULTILINE))
    assert names - {"RAY_AUTH_MODE", "RAY_AUTH_TOKEN_PATH"} == SETTINGS
