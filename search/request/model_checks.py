"""Whole models that a target's runtime would run in another way, or not at all: refused before a job exists.

A target is a line here; one that holds whatever a family knows has the check that refuses nothing.
"""

from collections.abc import Callable
from pathlib import Path

from space.errors import SpecError
from space.inventory import Inventory
from space.targets.compressed_tensors_target import COMPRESSED_TENSORS
from workers.models.model_files import read_config

_PACKED_HOLDS = "Use --target packed, which holds such models."
_CALLED_IN_PARTS = ("encoder-decoder", "speech-to-text")
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


def _check_mlx(folder: Path) -> None:
    from space.targets.mlx_target import ARCHITECTURES, WITH_WINDOWS
    from workers.models.config_defaults import sliding_window

    found = (read_config(folder).get("architectures") or ["no architecture"])[0]
    if found not in ARCHITECTURES:
        raise SpecError(
            f"{folder} is {found}; --target mlx knows how mlx-lm calls the layers of {', '.join(ARCHITECTURES)}. "
            + _PACKED_HOLDS
        )
    if found not in WITH_WINDOWS and (window := sliding_window(folder)) is not None:
        raise SpecError(f"{folder}: mlx-lm runs a {found} without its windows of {window} tokens. {_PACKED_HOLDS}")


def _check_exl3(folder: Path) -> None:
    found = (read_config(folder).get("architectures") or ["no architecture"])[0]
    if not found.endswith("ForCausalLM"):
        raise SpecError(
            f"{folder} is {found}; what loads --target exl3 (exllamav3, GPTQModel) runs decoders of text only. Use "
            "--target packed or compressed-tensors."
        )


MODEL_CHECKS: dict[str, Check] = {
    "packed": _refuse_nothing,
    "compressed-tensors": _refuse_nothing,
    "gguf": _check_gguf,
    "exl3": _check_exl3,
    "onnx": _check_onnx,
    "mlx": _check_mlx,
    "vllm": _check_vllm,
}
"""target -> check"""


def check_loadable(target: str, folder: Path, inventory: Inventory) -> None:
    """Refuse a model that what loads a target's files does not make of them again.

    Raises:
        SpecError: says why.

    """
    if target != COMPRESSED_TENSORS.name:
        return
    named = (read_config(folder).get("architectures") or ["no architecture"])[0]
    if named.startswith("Llama4"):
        raise SpecError(f"{folder} is {named}, whose experts compressed-tensors parts as it loads. {_PACKED_HOLDS}")
    if inventory.family in _CALLED_IN_PARTS:
        raise SpecError(
            f"{folder} is {named}: to generate, its encoder is called before compressed-tensors has unpacked it. "
            + _PACKED_HOLDS
        )
    if inventory.merged is not None:
        raise SpecError(
            f"{folder} stores {inventory.merged} in parts, which transformers does not put together in files of "
            f"{target}. {_PACKED_HOLDS}"
        )
