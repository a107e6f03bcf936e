"""A plan applied to a model: text, statistics, the levels that it names and no others, files, and their proof."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from search.job.text_and_levels import text_source
from search.measure.answer_keys import text_request
from space.question import KL, QUESTIONS, Metric
from tightfit.converting.conversion_papers import cache_of, conversion_card, conversion_record
from tightfit.converting.convert_wish import Conversion, ConvertWish, accepted
from tightfit.export.checkpoint import new_folder, write_papers
from tightfit.export.making import Order, make_export
from tightfit.export.source import Source
from tightfit.export.targets.writer import check_companions
from tightfit.export.targets.writer_table import WRITERS
from tightfit.origin import origin
from workers.devices import computed_digest, device_here
from workers.levels.level_store import LevelStore
from workers.models.model_files import model_digest
from workers.pool.cache_locks import use
from workers.recover.recovery_table import recovery_of
from workers.tasks import Evaluate, PrepareText, Teach, Workspace
from workers.text.text_sources import is_sampled
from workers.text.tokens import TokenSet

if TYPE_CHECKING:
    from workers.worker import Worker

Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Converted:
    """A verified conversion: bytes of its tensors, and what was measured on held-out text.

    `recorded_kl_divergence` is the plan's before it was written, `kl_divergence` that of the files, and
    `runtime_kl_divergence` that of the target's own runtime where it is installed.
    """

    path: str
    format: str
    size_bytes: int
    file_bytes: int
    predicted_bytes: int
    kl_divergence: float
    recorded_kl_divergence: float
    perplexity: float
    dense_perplexity: float
    logit_difference: float
    runtime: str | None
    runtime_kl_divergence: float | None
    commands: tuple[str, ...]
    metric: Metric = KL


class _Told:
    """Steps of an export that nobody else asks after."""

    def __init__(self, tell: Tell) -> None:
        self.tell, self._last = tell, ""

    def reach(self, step: str, _: float) -> None:
        if step != self._last:
            self._last = step
            self.tell(step)

    def keep(self, _: dict[str, Any]) -> None:
        return

    def look(self) -> None:
        return

    def watch(self, _: int, __: Mapping[str, float]) -> None:
        return


def convert(wish: ConvertWish, cache_folder: Path, tell: Tell = lambda _: None) -> Converted:
    """Apply a plan; what an earlier job or conversion made of the same model and text is found again.

    Args:
        wish: see `accepted` for what is refused.
        cache_folder: of a home.
        tell: hears how far it is.

    Raises:
        VerificationError: the files do not hold what was measured; they are kept for a look.

    """
    from workers.worker import Worker

    wanted = accepted(wish)
    check_companions(wanted.folder)
    content, device = model_digest(wanted.folder), device_here()
    cache = cache_folder / computed_digest(content, device)[:16]
    length = wanted.spec.sequence_length
    parts = (str(wanted.folder), str(cache), content, wanted.inventory)
    workspace = Workspace(*parts, device=device, sequence_length=length)
    with use(cache), new_folder(wish.out) as folder:
        worker = Worker(workspace)
        tokens = _text(worker, wanted, tell)
        task = Evaluate(tokens, wanted.plan, "held_out")
        tell("building levels and measuring the plan")
        worker.provide(task)
        dense, found = worker.run(Teach(tokens, "held_out")), worker.run(task)
        order = _order(wanted, workspace, tokens, found.kl_divergence)
        made = make_export(order, folder, _Told(tell))
        record = conversion_record(wanted, made, tokens, content)
        write_papers(made.written, record, conversion_card(wanted, made, origin()))
    written, verified = made.written, made.verified
    return Converted(
        path=str(wish.out),
        format=wanted.spec.target,
        size_bytes=written.size_bytes,
        file_bytes=written.file_bytes,
        predicted_bytes=written.predicted_bytes,
        kl_divergence=verified.kl_divergence,
        recorded_kl_divergence=found.kl_divergence,
        perplexity=verified.perplexity,
        dense_perplexity=dense,
        logit_difference=verified.logit_difference,
        runtime=verified.runtime and verified.runtime[0],
        runtime_kl_divergence=verified.runtime and verified.runtime[1],
        commands=tuple(WRITERS[wanted.spec.target].commands(wish.out, cache_of(wanted))),
        metric=QUESTIONS[wanted.inventory.family].metric,
    )


def _text(worker: "Worker", wanted: Conversion, tell: Tell) -> TokenSet:
    request = text_request(wanted.spec)
    tell("sampling text from the model itself" if is_sampled(request.source) else "reading text")
    source = text_source(request, wanted.inventory, wanted.folder)
    tokens: TokenSet = worker.run(PrepareText(request, source))
    return tokens


def _order(wanted: Conversion, workspace: Workspace, tokens: TokenSet, kl: float) -> Order:
    levels = Path(workspace.cache_folder) / "levels"
    store = LevelStore(levels, workspace.model_digest, tokens.of("calibration"), workspace.device)
    return Order(
        source=Source(wanted.folder, wanted.inventory, store, wanted.plan),
        workspace=workspace,
        tokens=tokens,
        target=wanted.spec.target,
        recovery=recovery_of("refit"),
        is_recovered=False,
        weight_budget=wanted.weight_bytes,
        dense_folder=workspace.model_folder,
        recorded_kl=kl,
        is_same_device=True,
    )
