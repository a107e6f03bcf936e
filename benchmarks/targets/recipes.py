"""llama.cpp's own recipes: a dense GGUF file, an importance matrix of our calibration, and its quantizer.

The quantizer is that of llama.cpp's library, by its C interface: `libllama` with `llama_model_quantize` in it, such as
npm's package @node-llama-cpp/linux-x64 has. It runs in a process of its own, which it ends where it does not go on.
"""

import ctypes
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path

import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from space.inventory import Inventory
from space.level import DENSE
from space.plan import Plan
from tightfit.export.source import Source
from tightfit.export.targets.gguf_writer import GGUF_WRITER
from workers.gguf.gguf_model import gguf_model
from workers.levels.level_store import LevelStore
from workers.levels.statistics import load_hessian

RECIPES = {"Q2_K": 10, "Q3_K_M": 12, "Q4_K_M": 15, "Q5_K_M": 17, "IQ2_M": 29, "IQ3_M": 27, "IQ4_XS": 30}
"""recipe -> its number in `enum llama_ftype`"""


class _Parameters(ctypes.Structure):
    """`llama_model_quantize_params`; what stands behind the importance matrix is left as it is."""

    _fields_ = [
        ("num_threads", ctypes.c_int32),
        ("recipe", ctypes.c_int32),
        ("output_type", ctypes.c_int32),
        ("embedding_type", ctypes.c_int32),
        ("flags", ctypes.c_bool * 8),
        ("importance", ctypes.c_void_p),
        ("others", ctypes.c_uint8 * 512),
    ]


class _Importance(ctypes.Structure):
    """`llama_model_imatrix_data`: the last of a list has no name."""

    _fields_ = [("name", ctypes.c_char_p), ("data", ctypes.c_void_p), ("size", ctypes.c_size_t)]


def dense_file(folder: Path, inventory: Inventory, out: Path) -> Path:
    """Write a model as GGUF with its weights as they are; return the file."""
    out.mkdir(parents=True, exist_ok=True)
    plan = Plan.of({m.name: DENSE for m in inventory.modules})
    GGUF_WRITER.write(out, Source(folder, inventory, LevelStore(out, "", ""), plan))
    return out / GGUF_WRITER.weights


def importance_file(folder: Path, inventory: Inventory, calibration: Path, out: Path) -> Path:
    """Write the mean squares of every weight's inputs, by the names that llama.cpp has for weights."""
    names = gguf_model(folder).renamed
    found = {names(m.weight.name): load_hessian(calibration, inventory, m.name).diagonal() for m in inventory.modules}
    save_file({name: (squares.float() / squares.mean()).contiguous() for name, squares in found.items()}, out)
    return out


def quantized(library: Path, dense: Path, importance: Path, recipe: str, out: Path) -> Path:
    """Return the file that llama.cpp makes of a dense one by a recipe; `library` is the folder of its libraries."""
    command = [sys.executable, "-m", __name__, *map(str, (library, dense, importance, recipe, out))]
    subprocess.run(command, check=True, capture_output=True, timeout=600)
    return out


def _quantize(library: Path, dense: Path, importance: Mapping[str, Tensor], recipe: str, out: Path) -> None:
    names = (library / "libggml-base.so", *library.glob("libggml.*so*"), *library.glob("libllama.*so*"))
    *_, llama = (ctypes.CDLL(str(name), mode=ctypes.RTLD_GLOBAL) for name in names)
    llama.llama_model_quantize_default_params.restype = _Parameters
    llama.llama_model_quantize.argtypes = [ctypes.c_char_p, ctypes.c_char_p, ctypes.POINTER(_Parameters)]
    parameters = llama.llama_model_quantize_default_params()
    rows = [_Importance(name.encode(), squares.data_ptr(), squares.numel()) for name, squares in importance.items()]
    listed = (_Importance * (len(rows) + 1))(*rows)
    parameters.num_threads, parameters.recipe = 1, RECIPES[recipe]
    parameters.importance = ctypes.cast(listed, ctypes.c_void_p)
    if llama.llama_model_quantize(str(dense).encode(), str(out).encode(), ctypes.byref(parameters)):
        raise SystemExit(f"llama.cpp cannot make {recipe} of {dense}")


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


if __name__ == "__main__":
    folder, model, squares, *asked = sys.argv[1:]
    _quantize(Path(folder), Path(model), load_file(squares), asked[0], Path(asked[1]))
