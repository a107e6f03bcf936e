"""What a job reads: token sequences or other samples, of what its request names, or sampled from the model itself."""

from collections.abc import Callable
from pathlib import Path
from typing import Any

from space.errors import CalibrationError
from workers.families.family_table import FAMILIES
from workers.samples.sample_records import SampleRecords
from workers.samples.sample_table import make_samples, read_samples
from workers.tasks import PrepareText, Workspace
from workers.text.chat_text import sample_chats
from workers.text.sampled_text import sample_tokens
from workers.text.text_sources import SELF, is_sampled
from workers.text.tokenizer import load_tokenizer, opening_of
from workers.text.tokens import TokenSet, tokenize


def made_text(task: PrepareText, space: Workspace, dense: Callable[[], Any]) -> TokenSet:
    """Make all splits and write them into the cache folder.

    Args:
        task: what is asked for.
        space: the model, and where its cache is.
        dense: gives the dense model, whole; asked where it is needed.

    Raises:
        CalibrationError: nothing can be made of the source, or text cannot be sampled from such a model.

    """
    folder, cache, request = Path(space.model_folder), Path(space.cache_folder), task.request
    family = FAMILIES[space.inventory.family]
    if (kind := family.question.samples) != "tokens":
        records = task.excerpt if isinstance(task.excerpt, SampleRecords) else read_samples(kind, folder, request)
        return make_samples(kind, folder, request, records, cache, dense)
    assert not isinstance(task.excerpt, SampleRecords)  # noqa: S101 (whoever asked knows the family)
    if not is_sampled(request.source):
        return tokenize(folder, request, cache, task.excerpt, space.inventory.vocabulary)
    if family.sample is None:
        told = "Text cannot be sampled from a model of its kind"
        raise CalibrationError(f"{folder}: {told}. Give a text or JSONL file with --calibration.")
    if request.source == SELF:
        return sample_chats(dense(), family.sample, request, cache, load_tokenizer(folder).turns())
    return sample_tokens(dense(), family.sample, request, cache, opening_of(folder))
