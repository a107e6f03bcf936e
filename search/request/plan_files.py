"""Plans of others, read from the files that they leave, so that they can be measured beside a search's own.

One format a function: (content, inventory) -> module name -> level text, or None where the file is of another format.
"""

import re
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from search.request.prepare import is_folder, read_inventory
from space.errors import SpecError, in_one_line
from space.inventory import Inventory, ModuleInfo
from space.level import Level, parse_level
from space.menu import UNIFORM_GROUP_SIZE
from space.parsing.strict_json import parse_json
from space.spec import JobSpec
from workers.bounded_files import MAX_JSON_BYTES, open_regular, read_bounded, user_path
from workers.models.model_files import resolve_model

Levels = dict[str, str]
_FORMATS = "docs/search.md tells what can be read."
_GGUF_MAGIC = b"GGUF"
_LINE = re.compile(r"\s*([\w.\-]+)\s*[:=]\s*(\S+)\s*")


def with_plans(spec: JobSpec, files: Sequence[str]) -> JobSpec:
    """Return a request that brings the plans of files beside those that it has; each has the name of its file.

    Raises:
        ModelError: the model cannot be found here, whose modules the files name.
        SpecError: a file cannot be read as a plan, or two have one name.

    """
    inventory = read_inventory(resolve_model(spec.model, spec.revision), None, images=is_folder(spec.calibration))
    plans = dict(spec.plans)
    for file in files:
        name = Path(file).stem
        if name in plans:
            raise SpecError(f"--plan {file}: there is a plan {name!r} already; name the file otherwise.")
        plans[name] = tuple(read_plan(file, inventory).items())
    return spec.model_copy(update={"plans": tuple(plans.items())})


def read_plan(text: str, inventory: Inventory) -> Levels:
    """Return module name -> level text of the plan in a file; modules that it does not name stay dense.

    It is one of: a JSON object of levels, or one that has it as `plan` (the `compression.json` of an export); the
    `config.json` of a compressed-tensors checkpoint, as llm-compressor writes it; the `quantization_config.json` of an
    EXL3 checkpoint; a GGUF file; lines `module: level`, as EvoPress writes them with bits for a level.

    Args:
        text: the file's path, as the user wrote it.
        inventory: of the model that the plan is for.

    Raises:
        SpecError: the file cannot be read, is of none of these formats, or holds what no level stands for.

    """
    path = user_path(text)
    try:
        with open_regular(path) as file:
            is_gguf = file.read(len(_GGUF_MAGIC)) == _GGUF_MAGIC
        found = _of_gguf(path, inventory) if is_gguf else _of_text(read_bounded(path, MAX_JSON_BYTES), inventory)
    except (OSError, ValueError, KeyError, TypeError, AttributeError) as error:  # the last three: not so built
        told = getattr(error, "strerror", None) or in_one_line(error)
        raise SpecError(f"--plan {text}: cannot be read as a plan ({told}). {_FORMATS}") from error
    if not found:
        raise SpecError(f"--plan {text}: names no module of the model. {_FORMATS}")
    return found


def _of_text(data: bytes, inventory: Inventory) -> Levels:
    content = data.decode()
    if content.lstrip()[:1] != "{":
        return _of_lines(content)
    value = parse_json(content)
    formats: Sequence[Callable[[Any, Inventory], Levels | None]] = (_of_compressed_tensors, _of_exl3, _of_levels)
    found = (read(value, inventory) for read in formats)
    return next((levels for levels in found if levels is not None), {})


def _of_lines(content: str) -> Levels:
    levels = {}
    for line in filter(str.strip, content.splitlines()):
        match = _LINE.fullmatch(line)
        if match is None:
            raise ValueError(f"the line {line[:80]!r} is not `module: level`")
        levels[match[1].removesuffix(".weight")] = _level_text(match[2])
    return levels


def _of_levels(value: Any, _: Inventory) -> Levels | None:
    named = value.get("plan", value)
    if not isinstance(named, dict):
        return None
    return {str(name): _level_text(level) for name, level in named.items()}


def _level_text(level: Any) -> str:
    """Return the text of a level; a number is that many bits, at the group size of uniform plans."""
    if str(level).isdecimal():
        bits = int(level)
        return "dense" if bits == 16 else str(Level(bits, UNIFORM_GROUP_SIZE))  # noqa: PLR2004 (kept as it is)
    return str(parse_level(str(level)))


def _of_compressed_tensors(value: Any, inventory: Inventory) -> Levels | None:
    settings = value.get("quantization_config", value)
    if not isinstance(settings, dict) or not isinstance(groups := settings.get("config_groups"), dict):
        return None
    ignored, levels = [*settings.get("ignore", ())], {}
    for module in inventory.modules:
        if module.kind == "linear" and not _is_matched(module, ignored):
            own = next((group for group in groups.values() if _is_matched(module, group.get("targets", ()))), None)
            if own is not None:
                levels[module.name] = _scheme_text(module, own)
    return levels


def _is_matched(module: ModuleInfo, targets: Sequence[str]) -> bool:
    """Tell whether one of some targets is a module's: its name, `re:` and an expression, or its class."""
    return any(
        re.match(target[3:], module.name) is not None if target.startswith("re:") else target in (module.name, "Linear")
        for target in targets
    )


def _scheme_text(module: ModuleInfo, group: Mapping[str, Any]) -> str:
    weights = group.get("weights") or {}
    if weights.get("type") != "int" or not weights.get("symmetric") or group.get("input_activations"):
        raise ValueError(f"{module.name}: only symmetric integers of weights alone can be compared")
    by_channel = weights.get("strategy") == "channel"
    return str(Level(int(weights["num_bits"]), None if by_channel else int(weights["group_size"])))


def _of_exl3(value: Any, inventory: Inventory) -> Levels | None:
    stored = value.get("tensor_storage")
    if not isinstance(stored, dict):
        return None
    bits = {name: entry["bits_per_weight"] for name, entry in stored.items() if "bits_per_weight" in entry}
    names = [module.name for module in inventory.modules if module.name in bits]
    return {name: str(Level(int(bits[name]), coding="exl3")) for name in names}


def _of_gguf(path: Path, inventory: Inventory) -> Levels:
    from space.codings.ggml_types import DENSE_TYPES, GGML_TYPES
    from workers.gguf.gguf_architectures import tensor_names
    from workers.gguf.gguf_file import architecture_in, read_gguf

    names = {entry.number: entry.name for entry in GGML_TYPES.values()} | dict.fromkeys(DENSE_TYPES.values(), "dense")
    types = {tensor.name: tensor.number for tensor in read_gguf(path)}
    renamed = tensor_names(architecture_in(path), inventory.num_blocks)
    found = {m.name: types[renamed(m.weight.name)] for m in inventory.modules if renamed(m.weight.name) in types}
    if strange := [name for name, number in found.items() if number not in names]:
        raise ValueError(f"{strange[0]} has a type that ggml's own code does not make")
    return {name: names[number] for name, number in found.items()}
