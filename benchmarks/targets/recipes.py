"""llama.cpp's own recipes: a dense GGUF file, an importance matrix of our calibration, and `llama-quantize`."""

import struct
import subprocess
from collections.abc import Iterator
from pathlib import Path

import torch
from torch import Tensor

from space.inventory import Inventory
from space.level import DENSE
from space.plan import Plan
from tightfit.export.source import Source
from tightfit.export.targets.gguf_writer import GGUF_WRITER
from workers.gguf.gguf_model import gguf_model
from workers.levels.level_store import LevelStore
from workers.levels.statistics import load_hessian

RECIPES = ("Q2_K", "Q3_K_M", "Q4_K_M", "Q5_K_M")
"""Those whose types llama.cpp itself has: the program's IQ recipes take types of ik_llama.cpp beside them."""


def dense_file(folder: Path, inventory: Inventory, out: Path) -> Path:
    """Write a model as GGUF with its weights as they are; return the file."""
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan.of({m.name: DENSE for m in inventory.modules})
    GGUF_WRITER.write(out, Source(folder, inventory, LevelStore(out, "", ""), plan))
    return out / GGUF_WRITER.weights


def importance_file(folder: Path, inventory: Inventory, calibration: Path, out: Path) -> Path:
    """Write the mean squares of every weight's inputs as an importance matrix (the older form of llama.cpp's)."""
    names = gguf_model(folder).renamed
    entries = [(names(m.weight.name), load_hessian(calibration, inventory, m.name)) for m in inventory.modules]
    entries = [("output.weight" if name.startswith("token_embd") else name, h) for name, h in entries]
    with out.open("wb") as file:
        file.write(struct.pack("<i", len(entries)))
        for name, hessian in entries:
            squares: Tensor = hessian.diagonal().float() / hessian.diagonal().mean()
            text = name.encode()
            file.write(struct.pack("<i", len(text)) + text + struct.pack("<ii", 1, len(squares)))
            file.write(squares.contiguous().numpy().tobytes())
    return out


def quantized(program: Path, dense: Path, importance: Path, recipe: str, out: Path) -> Path:
    """Return the file that `llama-quantize` makes of a dense one."""
    command = [str(program), "--imatrix", str(importance), str(dense), str(out), recipe, "1"]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return out


def unseen_tokens(folder: Path, count: int, length: int = 256) -> Tensor:
    """Return (count, length) tokens of text that no job on the standard library's text reads."""
    from workers.text.tokenizer import load_tokenizer

    tokenizer, ids = load_tokenizer(folder), list[int]()
    for text in _other_modules():
        ids += tokenizer.ids(text)
        if len(ids) >= count * length:
            break
    return torch.tensor(ids[: count * length]).view(count, length)


def _other_modules() -> Iterator[str]:
    import sysconfig

    from workers.text.text_sources import STDLIB_MODULES

    seen = {name for names in STDLIB_MODULES.values() for name in names}
    root = Path(sysconfig.get_paths()["stdlib"])
    for path in sorted(root.glob("*.py")):
        if path.stem not in seen and not path.stem.startswith(("_", "this", "antigravity")):
            yield path.read_text(encoding="utf-8")
