"""Documents: every verb is explained, and links lead somewhere."""

import os
import re
import subprocess
import sys
from pathlib import Path

import pytest

from tests.test_public_api import VERBS

ROOT = Path(__file__).resolve().parent.parent
DOCUMENTS = [ROOT / "README.md", ROOT / "CONTRIBUTING.md", *sorted((ROOT / "docs").glob("*.md"))]
LINK = re.compile(r"\]\((?!https?://|mailto:)([^)#\s]*)(#[^)\s]*)?(?:\s+\"[^\"]*\")?\)")
HIDDEN = {"run"}


def _prose(path: Path) -> str:
    """Return a document without its code blocks and code spans."""
    text = re.sub(r"^(```|~~~).*?^\1", "", path.read_text(encoding="utf-8"), flags=re.MULTILINE | re.DOTALL)
    return re.sub(r"`[^`\n]*`", "code", text)


def _anchors(path: Path) -> set[str]:
    """Return the anchors of a document's headings, as GitHub makes them."""
    headings = re.findall(r"^#+\s+(.*?)\s*$", path.read_text(encoding="utf-8"), flags=re.MULTILINE)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


@pytest.mark.parametrize("verb", [verb for verb in VERBS if verb not in HIDDEN])
def test_readme_mentions_every_verb(verb: str) -> None:
    """Nobody has to guess what the command line can do."""
    assert f"tightfit {verb}" in (ROOT / "README.md").read_text(encoding="utf-8")


@pytest.mark.parametrize("document", DOCUMENTS, ids=lambda path: path.name)
def test_links_lead_somewhere(document: Path) -> None:
    """Relative links name files that exist and headings that are there."""
    for target, anchor in LINK.findall(_prose(document)):
        path = (document.parent / target).resolve() if target else document
        assert path.exists(), f"{document.name} links to {target}, which does not exist"
        if anchor and path.suffix == ".md":
            assert anchor[1:] in _anchors(path), f"{document.name} links to {target}{anchor}, which is no heading"


@pytest.mark.parametrize("tool", ["tools/architecture_tree.py", "tools/command_reference.py"])
def test_what_is_written_from_the_code_is_current(tool: str) -> None:
    """The tree of docs/architecture.md, README's table of commands and docs/commands.md say what the code says."""
    environment = {**os.environ, "PYTHONPATH": str(ROOT)}
    done = subprocess.run(
        [sys.executable, tool, "--check"], cwd=ROOT, env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
