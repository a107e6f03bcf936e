"""Whole models that a target's runtime would run in another way, or not at all: refused before a job exists.

A target is a line here; one that holds whatever a family knows has the check that refuses nothing.
"""

from collections.abc import Callable
from pathlib import Path

from space.errors import SpecError
from space.inventory import Inventory
from space.targets.target_table import TARGETS
from workers.models.model_files import read_config

_PACKED_HOLDS = "Use --target packed, which holds them in few bits too."
Check = Callable[[Path], None]
"""folder of a model -> nothing; raises SpecError where the target cannot have it"""


def _refuse_nothing(_: Path) -> None:
    return


def _check_gguf(folder: Path) -> None:
    from workers.gguf.gguf_model import check_model

    check_model(folder)


def _check_onnx(folder: Path) -> None:
    from workers.onnx_files.onnx_architectures import check_model

    check_model(folder)


def _check_vllm(folder: Path) -> None:
    from space.targets.vllm_target import ARCHITECTURES

    found = read_config(folder).get("architectures") or ["no architecture"]
    if found[0] not in ARCHITECTURES:
        raise SpecError(
            f"{folder} is {found[0]}; --target vllm knows the fused layers of {', '.join(ARCHITECTURES)}. Use --target "
            "compressed-tensors, whose files vLLM may load too."
        )


def _check_exl3(folder: Path) -> None:
    found = (read_config(folder).get("architectures") or ["no architecture"])[0]
    if not found.endswith("ForCausalLM"):
        raise SpecError(
            f"{folder} is {found}; what loads --target exl3 (exllamav3, GPTQModel) runs decoders of text only. Use "
            "--target packed or compressed-tensors."
        )


def _check_compressed_tensors(folder: Path) -> None:
    found = (read_config(folder).get("architectures") or ["no architecture"])[0]
    if found.startswith("Llama4"):
        raise SpecError(f"{folder} is {found}, whose experts compressed-tensors parts as it loads. {_PACKED_HOLDS}")


def check_merged(target: str, folder: Path, inventory: Inventory) -> None:
    """Refuse parameters that are stored in parts, such as experts, where a target's loader does not put them together.

    Raises:
        SpecError: names the first of them.

    """
    if inventory.merged is not None and not TARGETS[target].merges:
        raise SpecError(
            f"{folder} stores {inventory.merged} in parts, which transformers does not put together in files of "
            f"{target}. {_PACKED_HOLDS}"
        )


MODEL_CHECKS: dict[str, Check] = {
    "packed": _refuse_nothing,
    "compressed-tensors": _check_compressed_tensors,
    "gguf": _check_gguf,
    "exl3": _check_exl3,
    "onnx": _check_onnx,
    "vllm": _check_vllm,
}
"""target -> check"""
