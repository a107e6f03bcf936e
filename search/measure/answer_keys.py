"""What a job asks its workers: which text, which levels, and the key under which an answer is known for ever."""

from pathlib import Path

from space.digest import digest
from space.errors import ModelError
from space.level import Level
from space.menu import SearchSpace
from space.spec import JobSpec
from workers.compress.versions import MEASURED_AS_IT_IS
from workers.models.headers import read_header
from workers.text.text_sources import Split
from workers.text.tokens import TextRequest, TokenSet

PROTOCOL_VERSION = 3  # part of every evaluation's digest: raise it when measurements are no longer comparable


def text_request(spec: JobSpec) -> TextRequest:
    """Return which text a job needs."""
    return TextRequest(
        spec.calibration,
        spec.sequence_length,
        spec.num_samples,
        spec.num_search_samples,
        spec.num_held_out_samples,
        spec.seed,
    )


def evaluation_digest(
    model: str, tokens: TokenSet, split: Split, num_sequences: int | None, version: int = MEASURED_AS_IT_IS
) -> str:
    """Return the key of an evaluation: same model, text, calibration, protocol and builders, same answer.

    `version` is the newest of what builds the levels of the plan that is evaluated.
    """
    made_of = [model, tokens.of("calibration"), tokens.of(split)]  # levels are made of the calibration text
    return digest([*made_of, num_sequences, PROTOCOL_VERSION, version])


def count_sequences(tokens: TokenSet, split: Split, num_asked: int) -> int:
    """Return how many sequences a split has; short text has fewer than were asked."""
    try:
        rows = [t.info.shape[0] for t in read_header(Path(tokens.path)) if t.info.name.partition(".")[0] == split]
    except (OSError, ModelError):
        rows = []
    return min([num_asked, *rows])


def required_levels(space: SearchSpace, module_name: str) -> tuple[Level, ...]:
    """Return the levels that stay whatever a module loses by them: of plans to compare with, all that others share."""
    if space.items.get(module_name) != (module_name,):
        return space.levels[module_name]
    return tuple(dict.fromkeys(plan[module_name] for plan in space.reference_plans()))
