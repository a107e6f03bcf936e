"""EXL3 files, which exllamav3 and GPTQModel load: linear layers in tiles, embeddings and tied heads as they are."""

from space.codings.coding_table import CODINGS
from space.inventory import ModuleInfo, TensorInfo
from space.level import Level
from space.targets.target import Target


def _why_not(level: Level) -> str | None:
    return None if level.is_dense or level.coding == "exl3" else "holds levels of EXL3 only (--kind exl3)"


def _is_legal(module: ModuleInfo, level: Level) -> bool:
    """Tell whether it is a plain linear layer of whole blocks; a head that is tied is the embedding."""
    return (
        module.kind == "linear"
        and module.site is None
        and CODINGS[level.coding].fits(module.out_features, module.in_features)
    )


def _layout(module: ModuleInfo, level: Level) -> tuple[TensorInfo, ...]:
    assert level.bits is not None  # noqa: S101 (dense levels are stored as they are)
    return CODINGS[level.coding].layout(module.out_features, module.in_features, level.bits)


EXL3_FILES = Target(name="exl3", why_not=_why_not, is_legal=_is_legal, layout=_layout, kinds=("exl3",))
