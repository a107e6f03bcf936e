"""One self-contained HTML page of a job's front: works offline, in an MLflow frame, in light and dark.

Everything that comes from outside (model names above all) is escaped, the page's script builds its elements from text,
and a content security policy forbids the page to load anything.
"""

import re
from collections.abc import Mapping, Sequence
from html import escape
from importlib.resources import files
from types import MappingProxyType

from space.budget import format_bytes
from space.inventory import Inventory
from space.model_name import model_name
from space.plan import Plan
from space.results.document import Comparison, FrontDocument, FrontPoint, GivenPoint, UniformPoint
from space.results.explanation import Explanation
from space.spec import JobSpec
from storage.records import Trial
from tightfit.report.chart import format_kl, front_chart, uniform_label
from tightfit.report.data import report_data, script_json
from tightfit.report.history import Step, history_section, measured_points, told_of_dots
from workers.text.text_sources import SELF

_PLACEHOLDER = re.compile(r"\{\{(\w+)\}\}")
_MINUTE = 60
_MAX_NAME = 200


def render_report(
    document: FrontDocument,
    plans: Mapping[str, Plan],
    inventory: Inventory,
    spec: JobSpec,
    notes: Sequence[str] = (),
    explanations: Mapping[str, Explanation] = MappingProxyType({}),
    *,
    trials: Sequence[Trial] = (),
    steps: Sequence[Step] = (),
    home_option: str = "",
    mlflow_link: str | None = None,
) -> str:
    """Return the report of a job as one HTML file below 300 KB.

    Args:
        document: the front.
        plans: point -> plan; points without a plan have no heat map.
        inventory: the model.
        spec: the request.
        notes: sentences for the reader, shown as they are.
        explanations: point -> why its modules have their levels; points without one have no table of reasons.
        trials: all of the search.
        steps: (trials done, metrics) as the search went on.
        home_option: what a command needs to find the job's records (` --home DIR`), or nothing.
        mlflow_link: where MLflow shows the job, where it does.

    """
    model, dots, told = _short(model_name(document.model)), measured_points(trials), document.metric.told
    parts = {
        "title": escape(f"{model} in {format_bytes(document.budget_bytes)}"),
        "model": escape(model),
        "answer": told(_answer(document)),
        "comparison": told(_comparison(document)),
        "notices": _paragraphs("notice", _notices(document)) + _paragraphs("lead", notes),
        "elsewhere": _elsewhere(document, home_option, mlflow_link),
        "chart_wide": told(front_chart(document, 620, 430, dots)),
        "chart_narrow": told(front_chart(document, 380, 360, dots)),
        "dots": told_of_dots(trials),
        "dots_key": '<li><i class="pale"></i>measured</li>' if dots else "",
        "history": told(history_section(steps)),
        "front_rows": "".join(_front_row(document, point, home_option) for point in document.front),
        "uniform_rows": "".join(_compared_row(document, uniform_label(u.level), u.level, u) for u in document.uniform)
        + "".join(_compared_row(document, given.name, "given", given) for given in document.given),
        "export": _export(document, home_option),
        "provenance": "".join(f"<div><dt>{k}</dt><dd>{escape(v)}</dd></div>" for k, v in _provenance(document, spec)),
        "dense": told(_dense(document)),
        "measured_on": "held-out text" if document.measured_on == "held_out" else "the text of the search",
        "data": script_json(report_data(document, plans, inventory, spec, explanations, home_option)),
        "style": _resource("report.css"),
        "script": document.metric.compared(_resource("report_tools.js") + _resource("report.js")),
    }
    template = document.metric.told(_resource("report_template.html"))
    return _PLACEHOLDER.sub(lambda match: parts[match[1]], template)


def _resource(name: str) -> str:
    return files("tightfit.report").joinpath(name).read_text(encoding="utf-8")


def _calibration(calibration: str | None) -> str:
    if calibration is None:
        return "text sampled from the model itself"
    return "chats of the model with itself" if calibration == SELF else model_name(calibration)


def _short(text: str) -> str:
    return text if len(text) <= _MAX_NAME else text[: _MAX_NAME - 1] + "…"


def _answer(document: FrontDocument) -> str:
    best, budget = document.recommended, format_bytes(document.budget_bytes)
    if best is None:
        found = "No plan was measured yet." if not document.front else f"The smallest point is {_smallest(document)}."
        return f"No point fits the budget of {budget}. {found}"
    low, high = best.kl_divergence_ci95
    return (
        f"Take <strong>{escape(best.point)}</strong>: <strong>{format_bytes(best.size_bytes)}</strong> of the {budget} "
        f"budget, at a KL divergence of <strong>{format_kl(best.kl_divergence)}</strong> nats per token "
        f"(95&#8239;% interval {format_kl(low)} to {format_kl(high)})."
    )


def _smallest(document: FrontDocument) -> str:
    point = min(document.front, key=lambda p: p.size_bytes)
    return f"{escape(point.point)} at {format_bytes(point.size_bytes)}"


def _comparison(document: FrontDocument) -> str:
    best = document.recommended
    if best is None or not document.uniform:
        return ""
    nearest = min(document.uniform, key=lambda u: (abs(u.size_bytes - best.size_bytes), u.size_bytes))
    share = 100 * (nearest.size_bytes / best.size_bytes - 1)
    size = "the same size" if abs(share) < 0.5 else f"{abs(share):.0f}&#8239;% {'larger' if share > 0 else 'smaller'}"  # noqa: PLR2004
    name = escape(uniform_label(nearest.level))
    told = f"Uniform {name}, the nearest plan with one setting for all modules, is {size}"
    kl = format_kl(nearest.kl_divergence)
    return f"{told} with a KL divergence of {kl}{_ratio(nearest.kl_divergence, best.kl_divergence)}.{_sure(document)}"


def _sure(document: FrontDocument) -> str:
    """Return how sure the advantage over uniform plans is, what more memory would buy, and what more search would."""
    told, best = "", document.recommended
    if best is not None and (found := best.versus_uniform) is not None and found.ratio is not None:
        sure = "a measurable difference" if found.measurable else "not a measurable difference"
        told += f" {escape(best.point)} has {found.ratio:.2f} times the KL divergence of "
        told += f"uniform {escape(uniform_label(found.other))}: {sure}."
    if document.marginal_price is not None:
        told += f" {escape(str(document.marginal_price))}."
    if document.experts is not None:
        told += f" Calibration: {document.experts}."
    if document.advice is not None:
        told += f" {escape(document.advice)}"
    return told


def _ratio(theirs: float, ours: float) -> str:
    if ours <= 0 or theirs <= 0:
        return ""
    ratio = theirs / ours
    if ratio >= 1.005:  # noqa: PLR2004 (prints as 1.01)
        return f": {ratio:.3g} times as much"
    return f": {ratio:.2f} times as much, so less" if ratio < 0.995 else ": as much"  # noqa: PLR2004


def _paragraphs(css_class: str, texts: Sequence[str]) -> str:
    return "".join(f'<p class="{css_class}">{escape(text)}</p>' for text in texts)


def _notices(document: FrontDocument) -> list[str]:
    found = []
    if document.measured_on != "held_out":
        found.append("Preliminary: measured on the text the search used, not yet on held-out text.")
    if document.state not in ("DONE", "RUNNING"):
        found.append(f"The job ended as {document.state}; this is the front as far as it came.")
    return found


def _interval(point: FrontPoint | UniformPoint | GivenPoint) -> str:
    low, high = point.kl_divergence_ci95
    return f'{format_kl(point.kl_divergence)} <span class="ci">{format_kl(low)} to {format_kl(high)}</span>'


def _front_row(document: FrontDocument, point: FrontPoint, home_option: str) -> str:
    name, command = escape(point.point), escape(document.export_command(point.point, home_option))
    fits = "" if point.size_bytes <= document.budget_bytes else ' <span class="badge over">over budget</span>'
    badge = ' <span class="badge">recommended</span>' if point.recommended else fits
    return (
        f'<tr data-point="{name}"><th scope="row"><button type="button" class="pick">{name}</button>{badge}</th>'
        f'<td>{format_bytes(point.size_bytes)}</td><td class="more">{point.bits_per_weight:.2f}</td>'
        f'<td>{_interval(point)}</td><td class="more">{_versus(point.versus_next)}</td>'
        f"<td>{_versus(point.versus_uniform, _beside(document, point))}</td>"
        f'<td class="more">{_beside_it(document, point.perplexity)}</td>'
        f'<td class="more command">{_copy_button(command, name)}</td></tr>'
    )


def _beside(document: FrontDocument, point: FrontPoint) -> str:
    """Return the uniform plan that a point is compared with, and its size where it differs."""
    if (found := point.versus_uniform) is None:
        return ""
    percent = f"{100 * (document.uniform_excess(point) or 0):+.0f}"
    return escape(uniform_label(found.other)) + ("" if percent[1:] == "0" else f" {percent}&#8239;%")


def _versus(found: Comparison | None, named: str = "") -> str:
    if found is None:
        return ""
    ratio = "-" if found.ratio is None else f"{found.ratio:.2f}&times;"
    mark = "" if found.measurable else '<span class="tie"> ~</span>'
    (low, high), other = found.difference_ci95, escape(uniform_label(found.other))
    name = f' <span class="ci">{named}</span>' if named else ""
    return f'<span title="minus {other}: {format_kl(low)} to {format_kl(high)}">{ratio}{mark}{name}</span>'


def _compared_row(document: FrontDocument, name: str, remark: str, point: UniformPoint | GivenPoint) -> str:
    inside = [p for p in document.front if p.size_bytes <= point.size_bytes]
    better = min(inside, key=lambda p: p.kl_divergence, default=None)
    told = "none this small"
    if better is not None:
        told = f"{escape(better.point)}: {format_kl(better.kl_divergence)}"
        told += f' <span class="ci">{format_bytes(better.size_bytes)}</span>'
    return (
        f'<tr><th scope="row">{escape(name)} <span class="ci">{escape(remark)}</span></th>'
        f"<td>{format_bytes(point.size_bytes)}</td><td>{_interval(point)}</td>"
        f'<td class="more">{_beside_it(document, point.perplexity)}</td><td>{told}</td></tr>'
    )


def _dense(document: FrontDocument) -> str:
    size, beside = format_bytes(document.dense.size_bytes), _beside_it(document, document.dense.perplexity)
    return f"{size}, perplexity {beside}" if beside else size


def _beside_it(document: FrontDocument, value: float) -> str:
    """Return the second number of a point; nothing where its metric has none."""
    if document.metric.beside is None:
        return ""
    return f"{value:.2f}" if value < 1e4 else f"{value:.2e}"  # noqa: PLR2004 (readable as a decimal)


def _copyable(command: str) -> str:
    return f'<code>{command}</code><button type="button" class="copy" data-copy="{command}">Copy</button>'


def _copy_button(command: str, name: str) -> str:
    return (
        f'<button type="button" class="copy" data-copy="{command}" title="{command}" '
        f'aria-label="Copy the export command of {name}">Copy</button>'
    )


def _elsewhere(document: FrontDocument, home_option: str, mlflow_link: str | None) -> str:
    """Return where else the front can be looked at."""
    command = f"<code>tightfit ui {escape(document.job)}{escape(home_option)}</code>"
    if mlflow_link is None:
        return f"{command} shows this front in MLflow."
    link = f'<a href="{escape(mlflow_link)}" target="_blank" rel="noopener noreferrer">Pareto view in MLflow</a>'
    return f"{link}; where its server is not running, {command} starts it."


def _export(document: FrontDocument, home_option: str) -> str:
    point = document.recommended or next(iter(document.front), None)
    if point is None:
        return "<p>There is no point to export.</p>"
    return f'<p class="terminal">{_copyable(escape(document.export_command(point.point, home_option)))}</p>'


def _provenance(document: FrontDocument, spec: JobSpec) -> list[tuple[str, str]]:
    cost = document.cost
    minutes, seconds = divmod(round(cost.wall_seconds), _MINUTE)
    cache = f", with the KV cache of {spec.batch} x {spec.context} tokens" if spec.context else ", weights only"
    return [
        ("Job", f"{document.job} ({document.state.lower()})"),
        ("Model", _short(model_name(document.model)) + (f" at {spec.revision}" if spec.revision else "")),
        ("Budget", f"{spec.budget} = {document.budget_bytes:,} bytes{cache}"),
        ("Target", document.target),
        ("Sampler and seed", f"{spec.sampler}, {document.seed}"),
        ("Trials", f"{cost.trials:,}"),
        ("Token forwards", f"{cost.token_forwards:,.0f}"),
        ("Wall time", f"{minutes} min {seconds} s"),
        ("Measured on", f"{document.measured_on.replace('_', '-')} text, {_sequences(document, spec)}"),
        ("Calibration", _calibration(spec.calibration)),
        ("Hypervolume", f"{document.hypervolume:.4f}"),
        ("Format version", str(document.schema_version)),
    ]


def _sequences(document: FrontDocument, spec: JobSpec) -> str:
    count = spec.num_held_out_samples if document.measured_on == "held_out" else spec.num_search_samples
    return f"{count} sequences of {spec.sequence_length} tokens"
