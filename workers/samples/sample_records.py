"""Records of a calibration source: one for each sample, in the order that they have there, in three splits."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from space.errors import CalibrationError
from workers.bounded_files import user_path
from workers.text.text_records import records_of_file
from workers.text.text_sources import STDLIB, Split, is_path, read_content, read_text, text_digest
from workers.text.tokens import SPLITS, TextRequest

MIN_RECORDS = 2  # of each split
_MIN_CHARACTERS = 12  # of a line that is a sample: shorter ones say nothing
_PAIRS = (
    *(("text", "text_pair"), ("query", "document"), ("question", "answer"), ("sentence1", "sentence2")),
    *(("source", "target"), ("input", "output"), ("prompt", "completion"), ("prompt", "response")),
)
"""names of fields that hold a pair"""


@dataclass(frozen=True, slots=True)
class SampleRecords:
    """What samples are made of, and one sentence that says where it comes from.

    Attributes:
        note: the sentence.
        records: each a tuple: a text, or a text and its pair; or the bytes of a file.

    """

    note: str
    records: tuple[tuple[Any, ...], ...]


def read_text_records(source: str, folder: Path) -> SampleRecords:
    """Return the records of a text: lines of a plain one, records of JSON and JSONL, with their pairs.

    Raises:
        CalibrationError: it cannot be read.

    """
    path = user_path(source)
    found: list[tuple[str, ...]] = []
    if source != STDLIB and is_path(source) and path.is_file():
        found = _pairs(path)
    if not found:
        text = read_text(source, folder)
        lines = (text if isinstance(text, str) else "\n".join(text.values())).splitlines()
        found = [(line.strip(),) for line in lines if len(line.strip()) >= _MIN_CHARACTERS]
    digest = text_digest("\n".join("\t".join(record) for record in found))
    what = "pairs" if found and len(found[0]) > 1 else "texts"
    return SampleRecords(f"text: {source}, {len(found)} {what}, digest {digest[:12]}", tuple(found))


def _pairs(path: Path) -> list[tuple[str, ...]]:
    """Return the pairs of a file of records, or nothing where it holds none."""
    try:
        records = records_of_file(path, read_content(path))
    except (CalibrationError, ValueError):  # tables, and what reading it as a text explains
        return []
    found = list[tuple[str, ...]]()
    for where, record in records:
        fields = record if isinstance(record, dict) else {}
        pair = next((p for p in _PAIRS if all(isinstance(fields.get(name), str) for name in p)), None)
        if pair is None:
            if found:
                raise CalibrationError(
                    f"{where} has no pair, but those before have. Give each a `text` and a `text_pair`, or the fields "
                    f"of another pair: {', '.join('/'.join(p) for p in _PAIRS[1:])}."
                )
            return []
        found.append(tuple(fields[name] for name in pair))
    return found


def divide(records: Sequence[Any], request: TextRequest) -> dict[Split, list[Any]]:
    """Return three disjoint parts, in proportion to what is asked, each spread evenly over its part of the source.

    Raises:
        CalibrationError: there are too few.

    """
    total = sum(request.count(split) for split in SPLITS)
    parts, begin, asked = dict[Split, list[Any]](), 0, 0
    for split in SPLITS:
        asked += request.count(split)
        end = len(records) * asked // total
        part, count = records[begin:end], min(request.count(split), end - begin)
        if len(part) < MIN_RECORDS:
            needed = -(-MIN_RECORDS * total // min(request.count(s) for s in SPLITS)) + len(SPLITS)
            raise CalibrationError(
                f"{request.source}: {len(records)} samples are too few: the {split} split gets {len(part)} of them. "
                f"Give {needed} or more, or sizes of the splits that are nearer to each other (--num-sequences)."
            )
        parts[split] = [part[round(i * (len(part) - 1) / max(1, count - 1))] for i in range(count)]
        begin = end
    return parts
