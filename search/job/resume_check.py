"""A resumed job goes on with what it began with: its text, its model, and the methods that its numbers come from."""

from pathlib import Path

from search.job.context import Context
from search.job.text_and_levels import Text
from search.measure.answer_keys import PROTOCOL_VERSION
from space.errors import UsageError
from space.menu import SearchSpace
from storage.job_facts import KeptText
from storage.sound_records import dense_perplexity_of
from workers.compress.versions import newest_version
from workers.text.tokens import TokenSet


def methods_of(space: SearchSpace) -> str:
    """Return the versions of what measures and builds the levels of a space."""
    return f"{PROTOCOL_VERSION}.{newest_version({v for levels in space.levels.values() for v in levels})}"


def kept_text(tokens: TokenSet) -> KeptText:
    """Return where tokens are, as a job keeps it."""
    calibration, search, held_out = tokens.digests
    return KeptText(tokens.path, tokens.note, (calibration, search, held_out))


def recorded_text(context: Context, cache_folder: Path) -> Text | None:
    """Return the text that a job began with, if it is still there: what it was made of may have changed since."""
    job = context.store.get_job(context.job_id)
    if job.facts.tokens is None or not context.trials():
        return None
    text = Text(TokenSet.from_json(job.facts.tokens.to_json(), cache_folder), dense_perplexity_of(job))
    return text if Path(text.tokens.path).exists() else None


def check_same_model(context: Context, model_digest: str) -> None:
    """Look whether the model is the one that a job began with, before anything is made of it.

    Raises:
        UsageError: its config or weights are others.

    """
    if context.facts().model_digest not in (None, model_digest):
        raise _cannot_go_on(context, f"the model {context.spec.model}")


def check_continuity(context: Context, tokens: TokenSet) -> None:
    """Look whether a job that has trials would measure the same now.

    Raises:
        UsageError: its text or this program's methods are others.

    """
    facts = context.facts()
    if facts.tokens is None or not context.trials():
        return
    changed = [] if facts.tokens.digests == tokens.digests else ["the text"]
    methods = methods_of(context.prepared.space)
    if facts.methods not in (None, methods):
        changed.append("tightfit's way to compress or measure")
    if changed:
        raise _cannot_go_on(context, " and ".join(changed))


def _cannot_go_on(context: Context, changed: str) -> UsageError:
    return UsageError(
        f"Job {context.job_id} cannot go on: since it began, {changed} changed, and what it measured then cannot be "
        "compared. Submit it again; its front so far stays as it is."
    )
