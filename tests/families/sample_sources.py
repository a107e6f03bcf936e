"""Small sources of samples, one of each kind."""

import wave
from pathlib import Path

import torch

from tests.workers.tiny_models import write_text_file


def source_of(kind: str, folder: Path) -> Path:
    """Return a file or folder that samples of a kind are made of, made in a folder."""
    return _SOURCES.get(kind, _texts)(folder)


def _texts(folder: Path) -> Path:
    return write_text_file(folder / "text.txt")


def _sounds(folder: Path) -> Path:
    """Make half a minute of hums in 24 WAV files, each another one."""
    out, rate = folder / "sounds", 16000
    out.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(5)
    for index in range(24):
        time = torch.arange(int(rate * (0.8 + 0.02 * index))) / rate
        hum = sum(torch.sin(2 * torch.pi * (150 + 60 * index) * harmonic * time) / harmonic for harmonic in (1, 2, 3))
        values = 0.2 * hum + 0.02 * torch.randn(len(time), generator=generator)
        with wave.open(str(out / f"{index:02d}.wav"), "wb") as file:
            file.setparams((1, 2, rate, 0, "NONE", ""))
            file.writeframes((values.clamp(-1, 1) * 32767).to(torch.int16).numpy().tobytes())
    return out


_SOURCES = {"transcribed-audio": _sounds, "audio": _sounds}
