"""The map of EXL3 files, held against the plan: exllamav3 and GPTQModel believe it, our own reader asks the tiles."""

import json
from pathlib import Path

from space.inventory import Inventory
from space.plan import Plan
from tightfit.export.targets.exl3_writer import quantization_settings


def exl3_problems(folder: Path, inventory: Inventory, plan: Plan) -> list[str]:
    """Return what the two places that hold the map say otherwise than the plan, one phrase each."""
    wanted, found = quantization_settings(inventory, plan), list[str]()
    config = json.loads((folder / "config.json").read_text(encoding="utf-8"))
    beside = json.loads((folder / "quantization_config.json").read_text(encoding="utf-8"))
    for name, told in (("config.json", config.get("quantization_config")), ("quantization_config.json", beside)):
        settings = told if isinstance(told, dict) else {}
        storage = settings.get("tensor_storage")
        told_of = storage if isinstance(storage, dict) else {}
        of_plan = wanted["tensor_storage"]
        names = [n for n in {**of_plan, **told_of} if told_of.get(n) != of_plan.get(n)]
        found += [f"{name} tells {n} to be stored otherwise than {plan.mapping.get(n, 'the model')}" for n in names]
        found += [f"{name} has {key}={settings.get(key)!r}" for key in wanted if _differs(settings, wanted, key)]
    return found


def _differs(settings: dict[str, object], wanted: dict[str, object], key: str) -> bool:
    return key != "tensor_storage" and settings.get(key) != wanted[key]
