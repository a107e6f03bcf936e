"""All kinds of samples by the name that questions have for them: how they are read, and what they are made into."""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from workers.model_inputs import ModelInputs
from workers.samples.audio import make_frames, make_transcribed, read_audio_folder
from workers.samples.image_prompts import make_image_prompts
from workers.samples.images import CAPTIONS, make_captioned, make_images, read_captioned_folder, read_image_folder
from workers.samples.sample_records import SampleRecords, divide, read_text_records
from workers.samples.teacher_forced import GivenModel
from workers.samples.text_pairs import make_answered_texts
from workers.samples.text_samples import check_given, make_embedded_texts, make_texts
from workers.text.tokens import SPLITS, TextRequest, TokenSet, save_samples

_AUDIO = "a folder of WAV files"
_IMAGES = "a folder of images (PNG or JPEG)"
_TEXTS = "a file of texts, one a line, or JSONL with `text`, or `text` and `text_pair`"


@dataclass(frozen=True, slots=True)
class SampleKind:
    """One kind of samples.

    Attributes:
        given: what a user gives.
        read: (source, the model's folder) -> its records. Raises CalibrationError.
        make: (the model's folder, records, tokens of a sequence, what gives the dense model, or None where inputs are
            only tried) -> inputs. Raises ModelError and CalibrationError.

    """

    given: str
    read: Callable[[str, Path], SampleRecords]
    make: Callable[[Path, Sequence[tuple[Any, ...]], int, GivenModel | None], ModelInputs]


SAMPLES: dict[str, SampleKind] = {
    "texts": SampleKind(_TEXTS, read_text_records, make_texts),
    "embedded-texts": SampleKind(_TEXTS, read_text_records, make_embedded_texts),
    "answered-texts": SampleKind(_TEXTS, read_text_records, make_answered_texts),
    "transcribed-audio": SampleKind(_AUDIO, read_audio_folder, make_transcribed),
    "audio": SampleKind(_AUDIO, read_audio_folder, make_frames),
    "images": SampleKind(_IMAGES, read_image_folder, make_images),
    "captioned-images": SampleKind(f"{_IMAGES} with a {CAPTIONS} beside them", read_captioned_folder, make_captioned),
    "images-in-text": SampleKind(f"{_IMAGES} with a {CAPTIONS} beside them", read_captioned_folder, make_image_prompts),
}
"""name -> kind, of all samples that are more than tokens"""


def read_samples(kind: str, folder: Path, request: TextRequest) -> SampleRecords:
    """Return the records of a job's source.

    Raises:
        CalibrationError: there is none, or it cannot be read.

    """
    return SAMPLES[kind].read(check_given(request.source, SAMPLES[kind].given), folder)


def check_samples(kind: str, folder: Path, request: TextRequest) -> None:
    """Refuse a source that a model's samples cannot be made of, before a job is made of it.

    Raises:
        CalibrationError: it cannot be read, or holds too few.
        ModelError: what makes inputs of them is missing or broken.

    """
    parts = divide(read_samples(kind, folder, request).records, request)
    SAMPLES[kind].make(folder, parts["search"][:1], request.sequence_length, None)


def make_samples(
    kind: str,
    folder: Path,
    request: TextRequest,
    records: SampleRecords,
    out_folder: Path,
    model: GivenModel | None = None,
) -> TokenSet:
    """Make the three splits and write them.

    Args:
        kind: of samples.
        folder: the model.
        request: how many samples, of how many tokens.
        records: what they are made of.
        out_folder: where they are written.
        model: gives the dense model, for answers of its own.

    Raises:
        CalibrationError: there are too few records.
        ModelError: what makes inputs of them is missing or broken.

    """
    parts = divide(records.records, request)
    length = request.sequence_length
    made = {split: SAMPLES[kind].make(folder, parts[split], length, model) for split in SPLITS}
    return save_samples(made, out_folder, f"{records.note}, divided into three disjoint parts")
