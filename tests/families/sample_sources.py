"""Small sources of samples, one of each kind."""

import json
import wave
from pathlib import Path

import torch
from PIL import Image

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


def _images(folder: Path) -> Path:
    """Make 24 images of stripes and noise, PNG and JPEG in turn, each of another size and with a caption."""
    out = folder / "images"
    out.mkdir(exist_ok=True)
    generator = torch.Generator().manual_seed(6)
    captions = []
    for index in range(24):
        height, width = 40 + index, 64 - index
        waves = torch.sin(torch.arange(width) * (0.1 + 0.05 * index))[None, :, None] * torch.tensor([1.0, 0.5, -1.0])
        values = 128 + 80 * waves + 30 * torch.randn((height, width, 3), generator=generator)
        path = out / f"{index:02d}.{'jpg' if index % 2 else 'png'}"
        Image.fromarray(values.clamp(0, 255).to(torch.uint8).numpy()).save(path)
        captions.append(json.dumps({"file_name": path.name, "text": f"{index} stripes" + " and noise" * (index % 4)}))
    (out / "metadata.jsonl").write_text("\n".join(captions), encoding="utf-8")
    return out


_SOURCES = {
    "transcribed-audio": _sounds,
    "audio": _sounds,
    "images": _images,
    "captioned-images": _images,
    "images-in-text": _images,
}
