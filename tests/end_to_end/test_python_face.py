"""The Python face, as the README shows it."""

import re
import sys
from collections.abc import Callable
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import pytest

import tightfit
from space.errors import UsageError
from space.results.document import FrontDocument
from space.spec import JobSpec
from storage.records import Job
from tests.end_to_end.jobs import PlainService, Quiet, open_service, small_spec
from tests.storage.sample_job import sample_job
from tests.workers.tiny_models import TinyKind
from tightfit.report.notebook_front import Front, front_csv

README = Path(__file__).parents[2] / "README.md"
BLOCK = re.compile(r"^```python\n(from tightfit import .*?)^```", re.MULTILINE | re.DOTALL)


@pytest.fixture(autouse=True)
def no_window() -> None:
    """Draw into memory."""
    mpl.use("agg")


def sample_front() -> Front:
    """Return the front of a plausible job."""
    sample = sample_job()
    return Front.of(sample.document, "DONE")


@pytest.mark.usefixtures("reload_here")
def test_what_the_readme_shows(
    tiny: Callable[[TinyKind], Path], text_file: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its lines run as they stand, with a smaller model and menu in place of the bundled one, and in this process."""
    asked: list[JobSpec] = []

    class Inline(PlainService):
        """A service that needs no Ray."""

        def __init__(self) -> None:
            self.__dict__ |= open_service(tmp_path / "home").__dict__

        def run(self, job_id: str, *_: Any, **__: Any) -> Job:
            return super().run(job_id, Quiet(), inline=True)

    def small(**values: Any) -> JobSpec:
        asked.append(JobSpec(**values))
        return small_spec(tiny("tied"), text_file, max_trials=20)

    monkeypatch.setattr(tightfit, "Service", Inline, raising=False)
    monkeypatch.setattr(tightfit, "JobSpec", small, raising=False)
    monkeypatch.chdir(tmp_path)
    (block,) = BLOCK.findall(README.read_text(encoding="utf-8"))
    shown: dict[str, Any] = {}
    exec(block, shown)  # noqa: S102 (our own README)
    assert asked[0].model == "bundled"
    assert isinstance(shown["front"], Front)
    assert shown["exported"].verified
    assert (tmp_path / "my-model-small" / "config.json").exists()
    assert (tmp_path / "home" / "logs" / f"{shown['job'].job_id}.log").read_text().endswith("The job is DONE.\n")


def test_a_front_is_its_document() -> None:
    """The same JSON, in the state that its job has now."""
    document = sample_job().document
    front = Front.of(document, "CANCELLED")
    assert front.to_json() == {**document.to_json(), "state": "CANCELLED"}
    assert FrontDocument.from_json(front.to_json()) == replace(document, state="CANCELLED")


def test_frame() -> None:
    """A row a point, named by it, in the order of bytes, with what CSV has."""
    front = sample_front()
    frame = front.to_frame()
    assert list(frame.index) == [p.point for p in front.front]
    assert frame.index.name == "point"
    assert list(frame.columns) == front_csv(front).splitlines()[0].split(",")[1:]
    assert list(frame["size_bytes"]) == [p.size_bytes for p in front.front]
    assert list(frame["kl_divergence"]) == [p.kl_divergence for p in front.front]
    best = front.recommended
    assert best is not None
    assert list(frame.index[frame["recommended"]]) == [best.point]


def test_plot() -> None:
    """Front and uniform plans against size on a logarithmic axis; into axes that are given, too."""
    front = sample_front()
    axes = front.plot()
    assert front.plot(axes) is axes
    assert axes.get_yscale() == "log"
    lines = {tuple(np.asarray(line.get_xdata()).tolist()) for line in axes.get_lines()}
    assert tuple(p.size_bytes / 1e6 for p in front.front) in lines
    assert tuple(u.size_bytes / 1e6 for u in front.uniform) in lines


def test_odd_fronts_are_drawn() -> None:
    """A KL of zero, one point, none: no axis breaks."""
    front = sample_front()
    lossless = replace(front.front[0], kl_divergence=0.0, kl_divergence_ci95=(0.0, 0.0))
    negative = replace(front.front[0], kl_divergence=1e-12, kl_divergence_ci95=(-1e-9, 1e-9))
    for points in ((lossless,), (lossless, *front.front[1:]), (negative,), ()):
        odd = replace(front, front=points)
        odd.plot()
        assert "<table>" in odd._repr_html_()
        assert len(front_csv(odd).splitlines()) == 1 + len(points)


def test_page_of_a_notebook() -> None:
    """A chart and a table; names are text, whatever they hold."""
    front = replace(sample_front(), model="<script>alert(1)</script>")
    page = front._repr_html_()
    assert "<script" not in page
    assert page.count("<svg") == page.count("<table>") == 1
    for point in front.front:
        assert f"<td>{point.point}</td><td>{point.size_bytes:,}</td>" in page


@pytest.mark.parametrize(("library", "verb"), [("pandas", "to_frame"), ("matplotlib", "plot")])
def test_a_library_that_is_not_there_is_named(monkeypatch: pytest.MonkeyPatch, library: str, verb: str) -> None:
    """With how to get it; the page of a notebook needs none."""
    monkeypatch.setitem(sys.modules, library, None)
    with pytest.raises(UsageError, match=f"needs {library}: `pip install {library}`"):
        getattr(sample_front(), verb)()
    assert sample_front()._repr_html_()
    assert asdict(sample_front())
