"""Sound as a model's own feature extractor makes inputs of it: WAV files of a folder, one a sample.

Shape legend: N samples, W values of a waveform.
"""

import wave
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from space.errors import CalibrationError, ModelError, in_one_line
from workers.bounded_files import user_path
from workers.model_inputs import ModelInputs
from workers.samples.sample_records import SampleRecords
from workers.samples.teacher_forced import GivenModel, decoding_of, with_own_answers
from workers.text.tokenizer import load_tokenizer

SHARE = "real_share"
"""name of the (N,) shares of a waveform that are no padding"""
_LONGEST_SECONDS, _SHORTEST_VALUES = 30, 800
_WIDTHS = {1: torch.uint8, 2: torch.int16, 4: torch.int32}


def read_audio_folder(source: str, _: Path) -> SampleRecords:
    """Return the WAV files of a folder, by name.

    Raises:
        CalibrationError: it is no folder, or holds none.

    """
    folder = user_path(source)
    if not folder.is_dir():
        raise CalibrationError(f"{source}: no folder. A model of speech is judged on a folder of WAV files.")
    files = sorted(path for path in folder.iterdir() if path.suffix.lower() == ".wav")
    if not files:
        raise CalibrationError(f"{source}: holds no WAV file. Convert what it holds: ffmpeg -i FILE FILE.wav.")
    return SampleRecords(f"audio: {source}, {len(files)} files", tuple((str(path),) for path in files))


def make_transcribed(
    folder: Path, records: Sequence[tuple[Any, ...]], sequence_length: int, model: GivenModel | None
) -> ModelInputs:
    """Return features with the transcripts of the dense model."""
    features = _extracted(folder, _waves(folder, records))
    tokenizer = load_tokenizer(folder)
    decoding = decoding_of(folder, tokenizer.prefix)
    inputs = {name: tensor for name, tensor in features.items() if name != "attention_mask"}
    return with_own_answers(inputs, decoding, sequence_length, model)


def make_frames(folder: Path, records: Sequence[tuple[Any, ...]], _: int, __: GivenModel | None) -> ModelInputs:
    """Return waveforms, or features of frames, padded to the longest, with the share of each that is no padding."""
    waves = _waves(folder, records)
    lengths = torch.tensor([len(wave_w) for wave_w in waves], dtype=torch.float32)
    return ModelInputs({**_extracted(folder, waves), SHARE: lengths / lengths.max()})


def _extractor(folder: Path) -> Any:
    from transformers import AutoFeatureExtractor

    try:
        return AutoFeatureExtractor.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    except Exception as error:  # the library raises many kinds, all of them about the folder's files
        raise ModelError(
            f"{folder}: its feature extractor cannot be loaded: {in_one_line(error)}. Put the model's own "
            "preprocessor_config.json into the folder."
        ) from error


def _extracted(folder: Path, waves: Sequence[Tensor]) -> dict[str, Tensor]:
    extractor = _extractor(folder)
    try:
        found = extractor(
            [wave_w.numpy() for wave_w in waves],
            sampling_rate=extractor.sampling_rate,
            return_tensors="pt",
            padding="max_length" if hasattr(extractor, "n_samples") else True,
        )
    except Exception as error:  # the same
        raise ModelError(f"{folder}: its feature extractor cannot read sound: {in_one_line(error)}.") from error
    return {name: tensor for name, tensor in found.items() if isinstance(tensor, Tensor)}


def _waves(folder: Path, records: Sequence[tuple[Any, ...]]) -> list[Tensor]:
    rate = _extractor(folder).sampling_rate
    return [read_audio(Path(record[0]), rate) for record in records]


def read_audio(path: Path, rate: int) -> Tensor:
    """Return the first half minute of a WAV file at a rate: (W,) values in -1 to 1. Raises CalibrationError."""
    return _resampled(*read_wave(path), rate)[: _LONGEST_SECONDS * rate]


def read_wave(path: Path) -> tuple[Tensor, int]:
    """Return the (W,) values of a WAV file in -1 to 1, its channels' mean, and how many there are a second.

    Raises:
        CalibrationError: it cannot be read, is in no plain integers, or is too short.

    """
    try:
        with wave.open(str(path), "rb") as file:
            width, channels, rate = file.getsampwidth(), file.getnchannels(), file.getframerate()
            data = file.readframes(file.getnframes())
    except (OSError, EOFError, wave.Error) as error:
        raise CalibrationError(f"{path}: cannot be read as a WAV file of plain integers ({error}).") from error
    if width not in _WIDTHS or len(data) < _SHORTEST_VALUES * width * channels:
        raise CalibrationError(f"{path}: {8 * width} bits a value, or too short: convert it to 16 bits, 1 s or more.")
    values = torch.frombuffer(bytearray(data), dtype=_WIDTHS[width]).view(-1, channels).float().mean(1)
    values = (values - 128) / 128 if width == 1 else values / 2 ** (8 * width - 1)
    return values, rate


def _resampled(wave_w: Tensor, rate: int, wanted: int) -> Tensor:
    """Return a waveform at another rate: the same spectrum, as far as both rates reach."""
    if rate == wanted:
        return wave_w
    count = round(len(wave_w) * wanted / rate)
    spectrum = torch.fft.rfft(wave_w.double())
    kept = torch.zeros(count // 2 + 1, dtype=spectrum.dtype)
    shared = min(len(kept), len(spectrum))
    kept[:shared] = spectrum[:shared]
    resampled: Tensor = torch.fft.irfft(kept, n=count)
    return (resampled * (count / len(wave_w))).float()
