"""The HTML report: everything is there, nothing gets in, nothing is loaded."""

import json
import re
from dataclasses import replace
from html import unescape
from html.parser import HTMLParser

import pytest

from space.cost import BYTE_PARTS
from space.inventory import Inventory, ModuleInfo, TensorInfo
from space.level import DENSE, Level
from space.plan import Plan
from space.results.explanation import Explanation, Move, Reason
from tests.storage.sample_job import SampleJob, sample_job
from tightfit.report.chart import format_kl
from tightfit.report.data import report_data
from tightfit.report.page import render_report
from tightfit.report.why import MAX_ROWS, MAX_ROWS_OF_POINT, reasons_data

HOSTILE = '</script><script>alert(1)</script>"><img src=x onerror=alert(2)>{{data}}'
VOID = {"meta", "link", "br", "img", "input", "hr", "col"}


@pytest.fixture(scope="module")
def sample() -> SampleJob:
    """Return a finished job."""
    return sample_job()


def _render(sample: SampleJob) -> str:
    return render_report(sample.document, sample.plans, sample.inventory, sample.job.spec)


class _Strict(HTMLParser):
    """Checks that every element is closed in order, and collects scripts and visible attributes."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.seen: list[str] = []
        self.attributes: list[tuple[str, str | None]] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.seen.append(tag)
        self.attributes += attrs

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def _parsed(html: str) -> _Strict:
    parser = _Strict()
    parser.feed(html)
    parser.close()
    return parser


def test_page_is_well_formed(sample: SampleJob) -> None:
    """Every element that opens is closed in order."""
    assert _parsed(_render(sample)).open == []


def test_hostile_names_stay_text(sample: SampleJob) -> None:
    """A model, job or module name cannot open an element, leave the data or fill a placeholder."""
    document = replace(sample.document, model=HOSTILE, job=HOSTILE)
    embedding = replace(sample.inventory.modules[0], name=HOSTILE)
    inventory = replace(sample.inventory, modules=(embedding, *sample.inventory.modules[1:]))
    plans = {k: Plan(((HOSTILE, p.levels[0][1]), *p.levels[1:])) for k, p in sample.plans.items()}
    html = render_report(document, plans, inventory, sample.job.spec, [HOSTILE])
    parsed, calm = _parsed(html), _parsed(_render(sample))
    assert [tag for tag in parsed.seen if tag == "img"] == []
    assert parsed.seen.count("script") == calm.seen.count("script")
    assert not [name for name, _ in parsed.attributes if name.startswith("on")]
    assert html.count('"columns":') == _render(sample).count('"columns":')


def test_page_loads_nothing(sample: SampleJob) -> None:
    """No address, no attribute that loads, and a policy that forbids both."""
    html = _render(sample)
    assert not re.search(r"https?://|@import|url\(", html)
    assert not [name for name, _ in _parsed(html).attributes if name in ("src", "href", "srcset", "action")]
    assert "default-src 'none'" in html


def test_every_point_is_there(sample: SampleJob) -> None:
    """Each front point is in both charts, the table and the data, each uniform plan in the charts."""
    html = _render(sample)
    for point in sample.document.front:
        assert html.count(f'data-point="{point.point}"') == 3
        assert f"tightfit export {sample.job.job_id} --point {point.point} --out DIR" in html
    assert html.count('class="uniform"') == 2 * len(sample.document.uniform)


def test_page_is_small_and_the_same_each_time(sample: SampleJob) -> None:
    """The report is below 300 KB and equal for equal jobs."""
    assert len(_render(sample).encode()) < 120_000
    assert _render(sample) == _render(sample_job())


def test_a_large_model_stays_below_300_kb(sample: SampleJob) -> None:
    """With 96 blocks of 28 modules and 60 points the map of some points is left out, never the recommended one's."""
    modules = [
        ModuleInfo(f"m.{block}.{e}.{kind}", "linear", TensorInfo(f"{block}.{e}.{kind}", (64, 64), "BF16"), block)
        for block in range(96)
        for kind in ("q_proj", "k_proj", "v_proj", "o_proj", "gate_proj", "up_proj", "down_proj")
        for e in range(4)
    ]
    inventory = Inventory(tuple(modules), (), None, 96)
    first = sample.document.front[0]
    front = tuple(replace(first, point=f"p{n}", recommended=n == 31, size_bytes=10**6 + n) for n in range(60))
    plans = {f"p{n}": Plan.of({m.name: Level(2 + (i * n) % 7, 64) for i, m in enumerate(modules)}) for n in range(60)}
    document = replace(sample.document, front=front)
    html = render_report(document, plans, inventory, sample.job.spec)
    assert len(html.encode()) < 300_000
    maps = {p["id"]: p["map"] for p in report_data(document, plans, inventory, sample.job.spec, {})["points"]}
    assert maps["p31"] is not None
    assert None in maps.values()


def test_bytes_add_up_to_the_size(sample: SampleJob) -> None:
    """The parts of each point's size bar are its size, KV cache included."""
    for point in report_data(sample.document, sample.plans, sample.inventory, sample.job.spec, {})["points"]:
        assert sum(point["bytes"]) == point["size"]
        assert len(point["bytes"]) == len(BYTE_PARTS)


def test_answer_names_point_interval_and_uniform(sample: SampleJob) -> None:
    """The first sentence has the recommended point, its size and interval; the second the nearest uniform plan."""
    best = sample.document.recommended
    assert best is not None
    text = re.sub(r"<[^>]+>", "", _render(sample))
    assert f"Take {best.point}: 4.85 MiB of the 5.00 MiB budget" in text
    assert f"interval {format_kl(best.kl_divergence_ci95[0])} to {format_kl(best.kl_divergence_ci95[1])}" in text
    assert "Uniform 3 bit, the nearest plan" in text


def test_no_point_fits(sample: SampleJob) -> None:
    """Without a recommended point the report says so and still shows the front."""
    front = tuple(replace(p, recommended=False) for p in sample.document.front)
    document = replace(sample.document, front=front, budget_bytes=10**6)
    html = render_report(document, sample.plans, sample.inventory, sample.job.spec)
    assert "No point fits the budget of 976.56 KiB. The smallest point is p0 at 4.11 MiB." in html


def test_odd_figures_do_not_break_the_page(sample: SampleJob) -> None:
    """An empty front, a KL of zero, an infinite perplexity and a plan left dense all render."""
    point = sample.document.front[0]
    first = replace(point, kl_divergence=0.0, kl_divergence_ci95=(-1e-6, 0.0), perplexity=float("inf"))
    dense = {"p0": Plan.of({m.name: DENSE for m in sample.inventory.modules})}
    for front in ((), (first,)):
        document = replace(sample.document, front=front, uniform=(), measured_on="search", state="CANCELLED")
        html = render_report(document, dense, sample.inventory, sample.job.spec)
        assert _parsed(html).open == []
        assert "Preliminary" in html
        data = re.search(r'id="data">(.*?)</script>', html)
        assert data is not None
        assert len(json.loads(data[1])["points"]) == len(front)


def _explained(sample: SampleJob, names: tuple[str, ...]) -> dict[str, Explanation]:
    """Return made-up reasons for the modules of some points."""
    found = {}
    for name in names:
        reasons = tuple(
            Reason(m.name, str(level), 0.01, 0.005, 1000, 9000, Move("b8-g64", 500, -0.001), None, "made up")
            for m, (_, level) in zip(sample.inventory.modules, sample.plans[name].levels, strict=True)
        )
        found[name] = Explanation(name, 0.5, 0.4, 1e-6, reasons)
    return found


def test_reasons_are_in_the_page(sample: SampleJob) -> None:
    """Every module of an explained point has a row with its neighbours; other points have none."""
    spec = sample.job.spec
    html = render_report(sample.document, sample.plans, sample.inventory, spec, (), _explained(sample, ("p1", "p4")))
    assert _parsed(html).open == []
    data = re.search(r'id="data">(.*?)</script>', html)
    assert data is not None
    why = json.loads(data[1])["why"]
    assert set(why["points"]) == {"p1", "p4"}
    for name in ("p1", "p4"):
        rows = why["points"][name]["rows"]
        assert {why["modules"][row[0]][0]: why["levels"][row[1]] for row in rows} == sample.plans[name].to_json()
        assert all(why["modules"][row[0]][1] == 10_000 and row[7:] == [0, 0, 0] for row in rows)
        assert {why["levels"][row[4]] for row in rows} == {"b8-g64"}


def test_reasons_of_a_large_model_are_cut(sample: SampleJob) -> None:
    """The recommended point keeps its largest shares; what is left out is counted; hostile names stay text."""
    best = sample.document.recommended
    assert best is not None
    first = _explained(sample, (best.point,))[best.point].modules[0]
    reasons = tuple(replace(first, module=f"model.layers.{n}.{HOSTILE}") for n in range(3000))
    found = {p.point: Explanation(p.point, 0.5, 0.4, 1e-6, reasons) for p in sample.document.front}
    why = reasons_data(sample.document, found)
    kept = why["points"][best.point]
    assert len(kept["rows"]) == MAX_ROWS_OF_POINT
    assert kept["left_out"] == 3000 - MAX_ROWS_OF_POINT
    assert sum(len(p["rows"]) for p in why["points"].values()) <= MAX_ROWS
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, (), found)
    assert len(html.encode()) < 300_000
    assert _parsed(html).seen.count("img") == 0


def test_ties_are_marked(sample: SampleJob) -> None:
    """A pair that does not differ measurably has a mark, others have none."""
    html = _render(sample)
    compared = [c for p in sample.document.front for c in (p.versus_next, p.versus_uniform) if c is not None]
    assert html.count('class="tie"') == sum(not c.measurable for c in compared) > 0
    assert str(sample.document.marginal_price) in html


def test_advice_is_told(sample: SampleJob) -> None:
    """What the search knows would make the front better; nothing where it knows of none."""
    advised = replace(sample.document, advice="Search <on>.")
    html = render_report(advised, sample.plans, sample.inventory, sample.job.spec)
    assert "Search &lt;on&gt;." in html
    assert "None" not in _render(sample)


def test_model_and_text_are_called_by_name(sample: SampleJob) -> None:
    """The page names no folder of the machine that made it: it is for others too."""
    snapshot = "/home/me/.cache/huggingface/hub/models--acme--tiny/snapshots/0a1b2c"
    for place, name in (("/data/secret/tiny-llama", "tiny-llama"), (snapshot, "acme/tiny"), ("~/my models/it/", "it")):
        document = replace(sample.document, model=place)
        spec = sample.job.spec.model_copy(update={"model": place, "calibration": "/home/me/private/mails.jsonl"})
        html = render_report(document, sample.plans, sample.inventory, spec)
        assert f"<h1>{name}</h1>" in html
        assert "mails.jsonl" in html
        assert not re.search(r"/data/secret|/home/me|~/my models|snapshots", html)


def test_links_lead_to_mlflow_and_nowhere_else(sample: SampleJob) -> None:
    """The only link of a page is the one to the job's Pareto view; it cannot leave its attribute."""
    link = 'http://127.0.0.1:5000/#/experiments/1/runs?a=1&b="><img src=x>'
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, mlflow_link=link)
    parsed = _parsed(html)
    assert [value for name, value in parsed.attributes if name == "href"] == [link]
    assert parsed.seen.count("img") == 0
    assert "tightfit ui calm-otter-7</code> shows this front in MLflow" in _render(sample)


def test_commands_find_the_records(sample: SampleJob) -> None:
    """Every command of the page has what it needs to find a job that is not in the usual home."""
    option = " --home '/tmp/my home'"
    html = render_report(sample.document, sample.plans, sample.inventory, sample.job.spec, home_option=option)
    commands = re.findall(r"tightfit (?:export|ui) [^<\"]*", unescape(html))
    assert len(commands) > 3 * len(sample.document.front)
    assert {command.rstrip("\\").endswith(option) for command in commands} == {True}
