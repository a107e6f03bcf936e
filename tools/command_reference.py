"""Write README's table of commands and docs/commands.md from the command line (--write), or check both."""

import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import typer

from tightfit.cli.app import app

ROOT = Path(__file__).resolve().parents[1]
README, REFERENCE = ROOT / "README.md", ROOT / "docs" / "commands.md"
_BEGIN, _END = "<!-- commands: begin -->\n", "<!-- commands: end -->\n"
_HEAD = """# Commands

Every command and option, written from the code by `python tools/command_reference.py --write`. Every command takes
`--json` where it has an answer: one document on stdout, the rest on stderr.
"""


def commands() -> Iterator[tuple[str, Any]]:
    """Yield what people type and the command behind it; hidden ones aside."""
    yield from _within("tightfit", typer.main.get_command(app))


def _within(prefix: str, group: Any) -> Iterator[tuple[str, Any]]:
    for name, command in group.commands.items():
        if hasattr(command, "commands"):
            yield from _within(f"{prefix} {name}", command)
        elif not command.hidden:
            yield f"{prefix} {name}", command


def _usage(typed: str, command: Any) -> str:
    """Return what people type with its arguments and the options that must be given."""
    parts = [typed]
    for parameter in command.params:
        if parameter.param_type_name == "argument":
            name = parameter.name.upper()
            parts.append(name if parameter.required else f"[{name}]")
        elif parameter.required:
            parts.append(f"{parameter.opts[0]} {parameter.name.upper()}")
    return " ".join(parts)


def _cell(text: str) -> str:
    return " ".join(text.split()).replace("|", "\\|")


def table() -> str:
    """Return the table of commands: what is typed, and what it does."""
    rows = [f"| `{_usage(typed, command)}` | {_cell(_first_sentence(command))} |" for typed, command in commands()]
    return "\n".join(["| command | what it does |", "|---|---|", *rows]) + "\n"


def _first_sentence(command: Any) -> str:
    text: str = command.help.partition("\n\n")[0]
    return text.rstrip(".")


def reference() -> str:
    """Return the document of all commands and their options."""
    return _HEAD + "".join(_section(typed, command) for typed, command in commands())


def _section(typed: str, command: Any) -> str:
    lines = [f"\n## {typed}\n", f"`{_usage(typed, command)}`\n", f"{command.help.strip()}\n"]
    told = [p for p in command.params if getattr(p, "help", None) and not getattr(p, "hidden", False)]
    rows = [f"| {_names(p)} | {_cell(p.help)}{_default(p)} |" for p in told]
    return "\n".join([*lines, *(["| option | |", "|---|---|", *rows, ""] if rows else [])])


def _names(parameter: Any) -> str:
    if parameter.param_type_name == "argument":
        return f"`{parameter.name.upper()}`"
    return ", ".join(f"`{name}`" for name in (*parameter.opts, *parameter.secondary_opts))


def _default(parameter: Any) -> str:
    """Return a default that says something; flags are off and most options decide for themselves."""
    value = parameter.default
    is_told = isinstance(value, str | int | float) and not isinstance(value, bool)
    return f" Default: {value}." if is_told and parameter.show_default is not False else ""


def main() -> None:
    """Write both documents, or tell which is not current."""
    readme = README.read_text(encoding="utf-8")
    before, _, rest = readme.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    new = {README: before + _BEGIN + "\n" + table() + "\n" + _END + after, REFERENCE: reference()}
    for path, text in new.items():
        if sys.argv[1:] == ["--write"]:
            path.write_text(text, encoding="utf-8")
        elif not path.exists() or path.read_text(encoding="utf-8") != text:
            sys.exit(f"{path.relative_to(ROOT)} is not current: python tools/command_reference.py --write")


if __name__ == "__main__":
    main()
