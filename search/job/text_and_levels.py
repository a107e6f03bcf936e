"""What a search stands on: text, the dense model's answers and levels. Each is made once; later jobs find it."""

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from search.decide.additive_model import Errors
from search.job.context import Context
from search.measure.answer_keys import required_levels, text_request
from search.measure.dispatch import require_all
from search.progress.phases import CALIBRATE, LEVELS, TEXT
from search.request.acceptance import text_key
from space.digest import digest
from space.inventory import Inventory
from space.menu import SearchSpace
from space.question import QUESTIONS
from space.results.expert_tokens import ExpertTokens
from workers.levels.level_store import LevelStore
from workers.pool.executor import Executor
from workers.samples.sample_records import SampleRecords
from workers.tasks import (
    DAMPED_BITS,
    BuildLevels,
    Calibrate,
    ChooseDamping,
    CompileLoops,
    LevelRecord,
    ModulePrices,
    PrepareText,
    PriceModules,
    Task,
    Teach,
    Workspace,
)
from workers.text.excerpt import Excerpt, read_excerpt
from workers.text.text_sources import is_sampled
from workers.text.tokens import TextRequest, TokenSet

Records = Sequence[LevelRecord]


@dataclass(frozen=True, slots=True)
class Text:
    """Tokens, the dense model's perplexity on the held-out ones, and what its experts saw of the first ones."""

    tokens: TokenSet
    dense_perplexity: float
    experts: ExpertTokens | None = None


class TextAndLevels:
    """Lays the ground of a job, asking workers only for what no earlier job left."""

    def __init__(self, context: Context, workspace: Workspace, executor: Executor) -> None:
        """Remember the parts."""
        self._context, self._workspace, self._executor = context, workspace, executor
        self._is_taught = False

    def known_text(self) -> Text | None:
        """Return the text that an earlier job made of the same source, if it is still there."""
        if (path := self._text_path()) is None:
            return None
        try:
            value = json.loads(path.read_text(encoding="utf-8"))
            experts = None if value.get("experts") is None else ExpertTokens(**value["experts"])
            text = Text(TokenSet.from_json(value["tokens"], path.parent), float(value["dense_perplexity"]), experts)
        except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged
            return None
        return text if Path(text.tokens.path).exists() else None

    def make_text(self) -> Text:
        """Make the text, and what the dense model says to it; remember both."""
        request = text_request(self._context.spec)
        folder = self._context.prepared.folder
        self._context.reporter.enter(TEXT)
        self._context.note("sampling text from the model itself" if is_sampled(request.source) else "reading text")
        tokens: TokenSet = self._require(
            [PrepareText(request, text_source(request, self._context.prepared.inventory, folder))]
        )[0]
        self._context.reporter.enter(CALIBRATE)
        self._context.note(f"calibrating ({tokens.note})")
        menu = frozenset(level for sizes in self._context.prepared.space.sizes.values() for level in sizes)
        loops = CompileLoops(tuple(sorted(menu, key=str)))
        answers = self._require([Calibrate(tokens), loops, Teach(tokens, "search"), Teach(tokens, "held_out")])
        self._is_taught = True
        text = Text(tokens, answers[3], answers[0])
        if text.experts is not None:
            self._context.note(str(text.experts))
        if (path := self._text_path()) is not None and Path(tokens.path).exists():
            from workers.whole_files import write_text

            experts = None if text.experts is None else text.experts.to_json()
            kept = {"tokens": tokens.to_json(), "dense_perplexity": text.dense_perplexity, "experts": experts}
            write_text(path, json.dumps(kept))
        return text

    def teach(self, tokens: TokenSet) -> None:
        """Have the dense model's answers ready for workers: an earlier job's may have been deleted since."""
        if not self._is_taught:
            self._require([Teach(tokens, "search"), Teach(tokens, "held_out")])
            self._is_taught = True

    def known_levels(self, tokens: TokenSet) -> list[Records | None]:
        """Return, for each module, the useful levels that an earlier job built, or None."""
        return read_records(self._workspace, self.level_tasks(tokens))

    def make_levels(self, tokens: TokenSet, known: Sequence[Records | None]) -> list[Records]:
        """Build the levels of the modules that have none; return those of all."""
        tasks = self.level_tasks(tokens)
        missing = [index for index, records in enumerate(known) if records is None]
        if missing:
            self._make_statistics(tokens)
        total = len(missing)
        self._context.reporter.enter(LEVELS, 1 - total / len(known) if known else 1.0)
        built = require_all(
            self._executor,
            [tasks[i] for i in missing],
            lambda done: self._level_progress(done, total, len(known)),
            self._context.check_stop,
        )
        found = dict(enumerate(known)) | dict(zip(missing, built, strict=True))
        return [records for records in found.values() if records is not None]

    def useful_space(self, records: Sequence[Records]) -> tuple[SearchSpace, Errors]:
        """Return the space without dominated levels, and each level's output error."""
        space = self._context.prepared.space
        by_name: Mapping[str, Records] = dict(zip(space.sizes, records, strict=True))
        kept = space.restricted({name: [r.level for r in found] for name, found in by_name.items()})
        count = sum(map(len, records))
        self._context.note(
            f"{count} useful levels of {sum(map(len, space.levels.values()))} for {len(records)} modules"
        )
        return kept, {name: {r.level: r.output_error for r in found} for name, found in by_name.items()}

    def _require(self, tasks: Sequence[Task]) -> list[Any]:
        return require_all(self._executor, tasks, check_stop=self._context.check_stop)

    def known_prices(self, tokens: TokenSet, num_sequences: int) -> ModulePrices | None:
        """Return the prices that an earlier job's gradient pass found, if they are still there."""
        try:
            value = json.loads(self._prices_path(tokens, num_sequences).read_text(encoding="utf-8"))
            return ModulePrices(tuple((name, float(price)) for name, price in value["prices"]), 0.0, value["seconds"])
        except (OSError, ValueError, LookupError, TypeError):  # not there, or damaged
            return None

    def make_prices(self, tokens: TokenSet, num_sequences: int) -> ModulePrices:
        """Return what errors of each module cost, from a gradient pass over search text; remember it."""
        self._context.note("pricing modules by a gradient pass")
        found: ModulePrices = self._require([PriceModules(tokens, num_sequences)])[0]
        self._context.spend("gradient pass", found.token_forwards)
        if found.prices:
            from workers.whole_files import write_text

            path = self._prices_path(tokens, num_sequences)
            write_text(path, json.dumps({"prices": found.prices, "seconds": found.seconds}))
        return found

    def _prices_path(self, tokens: TokenSet, num_sequences: int) -> Path:
        return Path(self._workspace.cache_folder) / f"prices-{tokens.of('search')[:16]}-{num_sequences}.json"

    def level_tasks(self, tokens: TokenSet) -> list[BuildLevels]:
        """Return how the levels of each module are built."""
        space = self._context.prepared.space
        return [
            BuildLevels(tokens, name, tuple(sizes.items()), required_levels(space, name))
            for name, sizes in space.sizes.items()
        ]

    def _make_statistics(self, tokens: TokenSet) -> None:
        self._require([Calibrate(tokens)])
        self._require([ChooseDamping(tokens, bits) for bits in DAMPED_BITS])

    def _level_progress(self, done: int, total: int, num_modules: int) -> None:
        self._context.reporter.advance(1 - (total - done) / num_modules)
        if done % max(1, total // 8) == 0:
            self._context.note(f"building levels, {done} of {total} modules", timed=True)

    def _text_path(self) -> Path | None:
        """Return where a text is remembered: under all that decides its tokens; a dataset's content is not known."""
        key = text_key(self._context.spec, self._context.prepared.folder)
        if key is None:
            return None
        kind = QUESTIONS[self._context.prepared.inventory.family].samples
        name = digest([key, self._workspace.model_digest, *([] if kind == "tokens" else [kind])])
        return Path(self._workspace.cache_folder) / f"text-{name[:16]}.json"


def text_source(request: TextRequest, inventory: Inventory, folder: Path) -> Excerpt | SampleRecords | None:
    """Read what samples are made of; None where the model is sampled."""
    kind = QUESTIONS[inventory.family].samples
    if kind != "tokens":
        from workers.samples.sample_table import read_samples  # makes tensors

        return read_samples(kind, folder, request)
    return None if is_sampled(request.source) else read_excerpt(str(request.source), request.num_tokens, folder)


def read_records(workspace: Workspace, tasks: Sequence[BuildLevels]) -> list[Records | None]:
    """Return the remembered answers to tasks, without workers."""
    if not tasks:
        return []
    calibration = tasks[0].tokens.of("calibration")
    store = LevelStore(Path(workspace.cache_folder) / "levels", workspace.model_digest, calibration)
    return [store.read_records(task) for task in tasks]
