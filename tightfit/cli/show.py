"""What people see in a terminal: tables on stdout."""

from collections.abc import Mapping
from pathlib import Path
from typing import TYPE_CHECKING

from rich import box
from rich.console import Console
from rich.table import Table

from space.budget import format_bytes
from space.cost import parts_told
from space.question import KL
from space.results.document import Comparison, FrontDocument, FrontPoint
from space.results.explanation import Explanation, Move, Reason, format_times
from space.results.own_score import OwnScore
from space.results.price import format_step, nice_step
from tightfit.cli.hints import command

if TYPE_CHECKING:
    from tightfit.converting.convert import Converted
    from tightfit.estimate import DryRun
    from tightfit.exporting import Exported

_WIDEST = 1000  # characters


def _print_table(table: Table) -> None:
    """Print a table as wide as it is: a terminal that is narrower breaks its lines, and nothing is cut off."""
    needed = _console(_WIDEST).measure(table).maximum
    _console(max(needed, _console().width)).print(table)


def _console(width: int | None = None) -> Console:
    """Return a console that prints text as it is: names and errors may hold brackets."""
    return Console(highlight=False, markup=False, width=width)


def _table(*names: str, title: str | None = None) -> Table:
    """Return a table without lines between columns: eight of numbers fit into 80 characters."""
    return Table(*names, title=title, box=box.SIMPLE_HEAD, padding=(0, 1, 0, 0), pad_edge=False)


def show_dry_run(found: "DryRun", sources: Mapping[str, str]) -> None:
    """Print what a job would search and cost; `sources` is field of the request -> who says it, if not the default."""
    console = _console()
    request = _table("key", "value", "from", title="The request (each key as in a file of --config)")
    for name, value in found.request.model_dump(mode="json").items():
        request.add_row(name, _written(value), sources.get(name, "default"))
    _print_table(request)
    table = _table("modules", "", "shape", "levels", "smallest", "largest", title=f"{found.model}: modules")
    for name, (kind, rows, columns, levels, smallest, largest), count in found.groups():
        shape = f"{rows} x {columns}" + (" embedding" if kind == "embedding" else "")
        table.add_row(name, f"x {count}", shape, str(levels), f"{smallest:,}", f"{largest:,}")
    _print_table(table)
    sizes = _table("uniform plan", "bytes", "", title="Sizes (everything stored counted)")
    sizes.add_row("dense", f"{found.dense_bytes + found.key_value_bytes:,}", "")
    for uniform in found.uniform:
        size = uniform.size_bytes
        sizes.add_row(uniform.level, f"{size:,}", "fits" if size <= found.budget_bytes else "over the budget")
    _print_table(sizes)
    cache = f"{found.key_value_bytes:,} bytes" if found.key_value_bytes else "not counted (weights only; see --context)"
    console.print(f"Budget: {found.budget_bytes:,} bytes. Key/value cache: {cache}.")
    console.print(f"Left alone (norms, biases, ...): {found.others_bytes:,} bytes.")
    for remark in found.remarks:
        console.print(remark)
    for entry in found.carried:
        console.print(f"Carried over unchanged: {entry.name}, {entry.size_bytes:,} bytes: {entry.reason}.")
    low, high = f"{found.smallest_bytes:,}", f"{found.largest_bytes:,}"
    console.print(f"Reachable: {low} to {high} bytes, about 10^{len(str(found.num_plans)) - 1} plans.")
    console.print(f"Estimate: {found.seconds / 60:.1f} minutes, {format_bytes(found.disk_bytes)} of cache at most.")


def _written(value: object) -> str:
    """Return a value of a request as people write it; nothing where it is open."""
    if isinstance(value, list):
        return ", ".join(map(_written_one, value))
    return "" if value is None else str(value).lower() if isinstance(value, bool) else str(value)


def _written_one(value: object) -> str:
    """Return one of a list's values: a pin as it is typed, a plan to compare with by its name."""
    if isinstance(value, list):
        name, told = value
        return f"{name}={told}" if isinstance(told, str) else f"{name} ({len(told)} modules)"
    return "channel" if value is None else str(value)


def show_front(document: FrontDocument) -> None:
    """Print a front beside the uniform plans."""
    console, told = _console(), document.metric.told
    title = f"Job {document.job}: front of {document.model} on {document.measured_on.replace('_', '-')} text"
    asked = document.dense.own is not None
    own = ("agrees", "right") if asked else ()
    table = _table("", "point", "bytes", "bpw", told("KL"), "95 %", "vs next", "vs uniform", *own, title=title)
    for p in document.front:
        low, high = p.kl_divergence_ci95
        table.add_row(
            *(_mark(document, p), p.point, f"{p.size_bytes:,}", f"{p.bits_per_weight:.3f}", f"{p.kl_divergence:.5f}"),
            *(f"{low:.5f} - {high:.5f}", _beside(p), _versus_uniform(document, p)),
            *(_own(p.own) if asked else ()),
        )
    _print_table(table)
    elsewhere = "; perplexities are in the files of --json and --csv" if document.metric == KL else ""
    console.print(f"* recommended; ! over the budget{elsewhere}.")
    beside = document.metric.beside
    columns = ("uniform", "bytes", document.metric.name, "95 %", *filter(None, [beside]), *own)
    uniform = _table(*columns, title="Uniform plans")
    for u in document.uniform:
        low, high = u.kl_divergence_ci95
        second = [f"{u.perplexity:.3f}"] if beside else []
        second += _own(u.own) if asked else ()
        uniform.add_row(u.level, f"{u.size_bytes:,}", f"{u.kl_divergence:.5f}", f"{low:.5f} - {high:.5f}", *second)
    _print_table(uniform)
    if document.given:
        _print_table(_given_table(document))
    dense = document.dense
    second_told = f", {beside} {dense.perplexity:.3f}" if beside else ""
    console.print(f"Dense: {dense.size_bytes:,} bytes{second_told}.")
    console.print(
        f"Search: {document.cost.trials} trials, {document.cost.token_forwards / 1e6:.2f} M token-forwards, "
        f"{document.cost.wall_seconds:.0f} s, hypervolume {document.hypervolume:.4f}."
    )
    console.print(told("vs next, vs uniform: KL over that of the next larger point and of the nearest uniform plan;"))
    console.print("beside that one stands how much larger it is;")
    if any(p.recovered is not None for p in document.front):
        console.print("of a recovered point, in vs next: KL over that of the point that it was made of;")
    console.print("~ marks two that do not differ measurably (paired 95 % interval over the same sequences).")
    if dense.own is not None:
        console.print(
            f"agrees, right: shares of your {dense.own.num_questions:,} questions with the dense model's answer, and "
            f"with the right one (95 %); the dense model has {_own(dense.own)[1]} right."
        )
    if document.marginal_price is not None:
        console.print(told(f"At the budget {document.marginal_price}."))
    if document.experts is not None:
        console.print(f"Calibration: {document.experts}.")
    if document.advice is not None:
        console.print(told(document.advice))
    if document.measured_on != "held_out":
        console.print("Preliminary: measured on the text that the search used, not on held-out text.")


def _given_table(document: FrontDocument) -> Table:
    """Return the plans that the request brought, each beside the best point that takes no more bytes."""
    own = () if document.dense.own is None else ("agrees", "right")
    table = _table("plan", "bytes", document.metric.name, "95 %", "front", *own, title="Plans to compare with")
    for g in document.given:
        low, high = g.kl_divergence_ci95
        beside = "" if g.versus_front is None else f"{g.versus_front.other} {_ratio(g.versus_front)}"
        interval, said = f"{low:.5f} - {high:.5f}", _own(g.own) if own else ()
        table.add_row(g.name, f"{g.size_bytes:,}", f"{g.kl_divergence:.5f}", interval, beside, *said)
    return table


def _beside(point: FrontPoint) -> str:
    """Return a point beside the next larger one; a recovered one beside the point that it was made of."""
    if point.recovered is None:
        return _ratio(point.versus_next)
    return f"{_ratio(point.recovered.versus_origin)} {point.recovered.versus_origin.other}"


def _own(found: OwnScore | None) -> tuple[str, str]:
    """Return the shares of a user's questions that agree and that are right, in percent with their intervals."""
    if found is None:
        return "", ""
    pairs = ((found.agreement, found.agreement_ci95), (found.accuracy, found.accuracy_ci95))
    agrees, right = (f"{share:.0%} ({low:.0%} - {high:.0%})" for share, (low, high) in pairs)
    return agrees, right


def _ratio(found: Comparison | None) -> str:
    if found is None:
        return ""
    ratio = "-" if found.ratio is None else f"{found.ratio:.2f}x"
    return ratio + ("" if found.measurable else " ~")


def _versus_uniform(document: FrontDocument, point: FrontPoint) -> str:
    """Return a point beside a uniform plan, with that one's size where it differs by half a percent or more."""
    if (found := point.versus_uniform) is None:
        return ""
    percent = f"{document.uniform_excess(point) or 0:+.0%}"
    return f"{_ratio(found)} {found.other}" + ("" if percent[1:] == "0%" else f" {percent}")


def _mark(document: FrontDocument, point: FrontPoint) -> str:
    if point.recommended:
        return "*"
    return "" if point.size_bytes <= document.budget_bytes else "!"


def show_explanation(job_id: str, found: Explanation) -> None:
    """Print why each module of a point has its level, the largest share of the loss first."""
    console, told = _console(), found.metric.told
    title = f"Job {job_id}: why the modules of {found.point} have their levels"
    table = _table("module", "level", told("KL share"), "bytes", "next down", "next up", "why", title=title)
    for r in found.modules:
        share, size = f"{r.kl_share:.1%}", f"{r.size_bytes:,}"
        table.add_row(r.module, r.level, share, size, _move(r.down), _move(r.up), _why(found, r))
    _print_table(table)
    step = nice_step(sum(r.size_bytes for r in found.modules))
    predicted = f"the search's additive model says {found.predicted_kl_divergence:.5f}"
    console.print(
        told(
            f"KL {found.kl_divergence:.5f} measured; {predicted}, and its predictions are scaled to what was measured."
        )
    )
    going = told(f"{format_step(step)} are worth {found.going_rate * step:.2g} KL at this size")
    console.print(
        f"Going rate: {going}. A level is right where going down costs more than the going rate (above 1x) and going "
        "up gains less (below 1x)."
    )


def _move(move: Move | None) -> str:
    return "" if move is None else f"{move.level}: {move.bytes_change:+,} B, {move.kl_change:+.1g}"


def _why(found: Explanation, reason: Reason) -> str:
    told = []
    if reason.down is not None:
        told.append(f"down {format_times(reason.down.rate, found.going_rate)}")
    if reason.up is not None:
        told.append(f"up {format_times(reason.up.rate, found.going_rate)}")
    return ", ".join(told) or "only useful level"


def show_result(document: FrontDocument, home: Path | None = None) -> None:
    """Print a front and what to do with it."""
    show_front(document)
    best = document.recommended
    if best is None:
        print(f"No point fits the budget of {document.budget_bytes:,} bytes.")
        return
    loss = document.metric.told(f"KL {best.kl_divergence:.5f}")
    print(f"Best within {document.budget_bytes:,} bytes: {best.point}, {loss}. Export it with")
    print(f"  {command(f'export {document.job} --point {best.point} --out DIR', home)}")


def show_export(exported: "Exported") -> None:
    """Print what was written and what the reload measured."""
    header = exported.file_bytes - exported.size_bytes
    print(f"Exported {exported.point} as {exported.format} to {exported.path}")
    print(
        f"  size      {exported.size_bytes:,} bytes (predicted {exported.predicted_bytes:,}, budget "
        f"{exported.budget_bytes:,}; the container's header takes {header:,} more)"
    )
    if exported.bytes_by_part:
        print(f"  bytes     {parts_told(exported.bytes_by_part)}")
    where = "" if exported.measured_on == "held_out" else " on search text: the job has not judged its plans yet"
    told = exported.metric.told
    print(told(f"  quality   KL {exported.kl_divergence:.6f} (recorded {exported.recorded_kl_divergence:.6f}{where})"))
    if exported.refit_kl_divergence is not None:
        kept = "kept" if exported.refitted else "not kept: it is not measurably better"
        print(told(f"  refit     KL {exported.refit_kl_divergence:.6f}, {kept}"))
    show_verified(exported)


def show_verified(found: "Exported | Converted") -> None:
    """Print what the check of an export found, and what runs it."""
    print(f"  reloaded  in a fresh process; answers differ from the searched model by {found.logit_difference:.3g}")
    if found.runtime is not None:
        loss = found.metric.told(f"KL {found.runtime_kl_divergence:.6f}")
        print(f"  runtime   {found.runtime} loads it: {loss} of its own answers")
    print("  verified")
    for line in found.commands:
        print(f"  run it    {line}")
