"""What breaks an export without a word from the library that loads it, planted once in the files of each target.

A tensor that is not there (transformers fills it at random), one that is for another one, a scale that is no number,
values of another level, a layer that the config tells to be of another scheme, pruned values that came back.
"""

import json
import shutil
from collections.abc import Callable, Mapping
from dataclasses import replace
from functools import cache
from itertools import cycle
from pathlib import Path

import pytest
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor

from space.errors import VerificationError
from space.level import DENSE, Level, parse_level
from space.plan import Plan
from space.targets.target_table import TARGETS, is_legal, items_of_model
from tests.export.decoder_models import make_decoder
from tests.export.exports import Export, reload_request, write_export
from tests.workers.tiny_models import Bench, TinyKind, make_bench, make_wide
from tightfit.export.verify import Promise, Verified, verify_export
from workers.models.digests import file_digest
from workers.onnx_files.graph_files import GRAPH_FILE

LEVELS: Mapping[str, tuple[str, ...]] = {
    "packed": ("b4-g32-s0.5", "b3-gch-t-h"),
    "compressed-tensors": ("b4-g32", "b8-g32"),
    "gguf": ("q4_0", "q8_0"),
    "exl3": ("exl3-3", "exl3-4"),
    "onnx": ("b4-g32", "b8-g32"),
    "mlx": ("b4-g32-z", "b3-g64-z"),
    "vllm": ("b4-g32", "b8-gch-a8", "b8-gch-f-af8"),
}
"""target -> levels that items take in turn"""
LAYER = "model.layers.0.self_attn.o_proj"
GGUF_LAYER = b"blk.0.attn_output.weight"


@pytest.fixture(scope="module")
def exports(
    bench: Callable[[TinyKind], Bench], tmp_path_factory: pytest.TempPathFactory, text_file: Path
) -> Callable[[str], Export]:
    """Give a target's good export, made once."""

    def made(target: str) -> Export:
        root = tmp_path_factory.mktemp(target)
        if target in ("packed", "compressed-tensors", "vllm"):
            at = bench("tied")
        else:
            folder = make_wide(root / "model") if target == "exl3" else make_decoder(root / "model", "llama3")
            at = make_bench(folder, root / "cache", text_file)
        inventory, turn = at.workspace.inventory, cycle(map(parse_level, LEVELS[target]))
        levels: dict[str, Level] = {}
        for names in items_of_model(inventory, target).values():
            level = next(turn)
            fits = all(is_legal(inventory.module(name), level, target) for name in names)
            levels |= dict.fromkeys(names, level if fits else DENSE)
        plan = Plan.of({module.name: levels[module.name] for module in inventory.modules})
        at.build(plan, target)
        return write_export(at, plan, target, root / "out")

    return cache(made)


def _verified(export: Export, target: str) -> Verified:
    at = export.bench
    promise = Promise(export.written.size_bytes, None)
    return verify_export(export.written, at.workspace.inventory, export.plan, target, promise, reload_request(at))


def _tensors(folder: Path, change: Callable[[dict[str, Tensor]], object]) -> None:
    """Change the tensors of a safetensors file; where our own container keeps its digest, that too."""
    path = folder / "model.safetensors"
    tensors = {name: tensor.clone() for name, tensor in load_file(path).items()}
    change(tensors)
    save_file({name: tensor.contiguous() for name, tensor in tensors.items()}, path, {"format": "pt"})
    config = json.loads((folder / "config.json").read_text())
    if "digests" in config.get("quantization_config", {}):
        config["quantization_config"]["digests"] = {path.name: file_digest(path)}
        (folder / "config.json").write_text(json.dumps(config))


def _bytes(path: Path, before: bytes, after: bytes) -> None:
    data = path.read_bytes()
    assert before in data
    path.write_bytes(data.replace(before, after))


def _of_layer(tensors: Mapping[str, Tensor], *parts: str) -> str:
    return next(f"{LAYER}.{part}" for part in parts if f"{LAYER}.{part}" in tensors)


_VALUES = ("qweight", "weight_packed", "trellis", "weight")
_SCALES = ("scale", "scales", "weight_scale", "svh")


def _missing(folder: Path, target: str) -> None:
    if target == "gguf":
        _bytes(folder / "model.gguf", GGUF_LAYER, GGUF_LAYER.replace(b"output", b"outpux"))
    elif target == "onnx":
        _bytes(folder / GRAPH_FILE, b"layers.0.self_attn.o_proj", b"layers.0.self_attn.x_proj")
    else:
        _tensors(folder, lambda tensors: tensors.pop(_of_layer(tensors, *_VALUES)))


def _no_number(folder: Path, target: str) -> None:
    """Make a scale no number."""
    assert target not in ("gguf", "onnx")
    _tensors(folder, lambda tensors: tensors[_of_layer(tensors, *_SCALES)].view(-1)[:1].fill_(float("nan")))


def _other_values(folder: Path, target: str) -> None:
    """Exchange halves of a layer's values: as many bytes, other numbers."""
    if target in ("gguf", "onnx"):
        path = folder / ("model.gguf" if target == "gguf" else f"{GRAPH_FILE}.data")
        data = bytearray(path.read_bytes())
        middle = len(data) * 3 // 4
        data[middle : middle + 512] = data[middle : middle + 512][::-1]
        path.write_bytes(bytes(data))
        return

    def change(tensors: dict[str, Tensor]) -> None:
        name = _of_layer(tensors, *_VALUES)
        raw = tensors[name].view(torch.uint8)
        tensors[name] = raw.roll(len(raw) // 2, 0).view(tensors[name].dtype)

    _tensors(folder, change)


def _other_scheme(folder: Path, target: str) -> None:
    """Tell in the config that a layer is of another scheme than its tensors."""
    path = folder / "config.json"
    config = json.loads(path.read_text())
    settings = config["quantization" if target == "mlx" else "quantization_config"]
    if target == "mlx":
        settings[LAYER]["bits"] = 8
    elif target == "packed":
        settings["plan"][LAYER] = "b8-gch"
    elif target == "exl3":
        settings["tensor_storage"][LAYER]["bits_per_weight"] = 8
        settings["tensor_storage"][LAYER]["stored_tensors"][f"{LAYER}.trellis"]["shape"][-1] = 128
    else:
        own = f"re:^{LAYER.replace('.', chr(92) + '.')}$"
        groups = settings["config_groups"].values()
        holder = next(group for group in groups if own in group["targets"])
        holder["targets"].remove(own)
        next(group for group in groups if group is not holder)["targets"].append(own)
    path.write_text(json.dumps(config))


def _one_scheme_for_all(folder: Path, target: str) -> None:
    """Give all layers the first group's bits, as transformers does with `dequantize=True`."""
    assert target in ("compressed-tensors", "vllm")
    path = folder / "config.json"
    config = json.loads(path.read_text())
    groups = [*config["quantization_config"]["config_groups"].values()]
    for group in groups[1:]:
        group["weights"] = groups[0]["weights"]
    path.write_text(json.dumps(config))


def _other_positions(folder: Path, target: str) -> None:
    """Leave out what mlx-lm takes otherwise where a config does not tell: the base of the rotary embedding."""
    assert target == "mlx"
    path = folder / "config.json"
    config = json.loads(path.read_text())
    path.write_text(json.dumps({**config, "rope_theta": 10 * config["rope_theta"]}))


def _zeros_that_came_back(folder: Path, target: str) -> None:
    """Turn the mask of a pruned layer around."""
    assert target == "packed"

    def change(tensors: dict[str, Tensor]) -> None:
        name = next(name for name in tensors if name.endswith(".mask"))
        tensors[name] = ~tensors[name]

    _tensors(folder, change)


_FOLDERS = ("packed", "compressed-tensors", "exl3", "mlx", "vllm")
TRAPS: Mapping[str, tuple[Callable[[Path, str], None], tuple[str, ...]]] = {
    "missing": (_missing, tuple(TARGETS)),
    "other values": (_other_values, tuple(TARGETS)),
    "no number": (_no_number, _FOLDERS),
    "other scheme": (_other_scheme, _FOLDERS),
    "one scheme for all": (_one_scheme_for_all, ("compressed-tensors", "vllm")),
    "other positions": (_other_positions, ("mlx",)),
    "zeros that came back": (_zeros_that_came_back, ("packed",)),
}
"""what is planted -> how, and in the files of which targets"""


@pytest.mark.slow
@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize("target", list(TARGETS))
def test_good_files_pass(exports: Callable[[str], Export], target: str) -> None:
    """So that what is found below is what was planted."""
    assert _verified(exports(target), target).logit_difference < 1e-4


@pytest.mark.slow
@pytest.mark.usefixtures("reload_here")
@pytest.mark.parametrize(("trap", "target"), [(trap, t) for trap, (_, targets) in TRAPS.items() for t in targets])
def test_what_is_planted_is_found(exports: Callable[[str], Export], tmp_path: Path, trap: str, target: str) -> None:
    """And nothing is told to be well."""
    good, plant = exports(target), TRAPS[trap][0]
    shutil.copytree(good.folder, tmp_path / "bad")
    bad = replace(good, written=replace(good.written, folder=tmp_path / "bad"))
    plant(bad.folder, target)
    with pytest.raises(VerificationError, match="is not what was promised"):
        _verified(bad, target)
