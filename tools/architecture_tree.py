"""Write the tree of docs/architecture.md from the first sentences of all files (--write), or check it (--check)."""

import ast
import sys
from collections.abc import Iterator
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
DOCUMENT = ROOT / "docs" / "architecture.md"
FLOORS = ("tightfit", "search", "workers", "storage", "space")
_BEGIN, _END = "<!-- tree: begin -->\n", "<!-- tree: end -->\n"
_WIDTH, _NAME = 120, 27
_MARKS = (": ", "; ", ", ", ". ", " (")


def tree() -> str:
    """Return the tree as a block of text, a line per file."""
    lines = [line for floor in FLOORS for line in _room(ROOT / floor, "")]
    return "```\n" + "\n".join(lines) + "\n```\n"


def _room(folder: Path, indent: str) -> Iterator[str]:
    yield _line(f"{indent}{folder.name}/", folder / "__init__.py")
    for path in sorted(folder.glob("*.py")):
        if not path.name.startswith("__"):
            yield _line(f"{indent}  {path.stem}", path)
    for inner in sorted(folder.iterdir()):
        if (inner / "__init__.py").exists() and inner.name != "versions":
            yield from _room(inner, indent + "  ")


def _line(name: str, path: Path) -> str:
    """Return a name and the first line of its docstring, as far as whole parts of that sentence find room."""
    text = ast.get_docstring(ast.parse(path.read_text(encoding="utf-8"))) or ""
    line = f"{name:<{_NAME}} {text.partition(chr(10))[0]}"
    while len(line) > _WIDTH or line.count("(") > line.count(")"):
        line = line[: max(line.rfind(mark, _NAME) for mark in _MARKS)]
    return line.rstrip(".")


def main() -> None:
    """Write the document, or tell whether it is current."""
    text = DOCUMENT.read_text(encoding="utf-8")
    before, _, rest = text.partition(_BEGIN)
    _, _, after = rest.partition(_END)
    new = before + _BEGIN + tree() + _END + after
    if sys.argv[1:] == ["--write"]:
        DOCUMENT.write_text(new, encoding="utf-8")
    elif text != new:
        sys.exit("docs/architecture.md is not current: python tools/architecture_tree.py --write")


if __name__ == "__main__":
    main()
