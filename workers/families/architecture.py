"""From a model folder's config to its family and to the class that runs it: only the class that the config names."""

from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager, nullcontext
from pathlib import Path
from typing import Any

from space.errors import ModelError, in_one_line
from workers.families.family import Family
from workers.families.family_table import FAMILIES, family_of
from workers.models.model_files import read_config


def build_model(
    folder: Path,
    made_in: AbstractContextManager[Any] | None = None,
    experts: str = "eager",
    *,
    images: bool = False,
    **options: Any,
) -> tuple[Any, Family]:
    """Return the model that a config describes, without the weights of its folder, its ties tied, and its family.

    Args:
        folder: the model.
        made_in: what to build it in, such as the meta device.
        experts: how transformers computes experts: "eager" is one after the other.
        images: whether it is asked on images, where its architecture allows other questions, too.
        options: for transformers' `from_config`.

    Raises:
        ModelError: no family has such an architecture, or the config is inconsistent.

    """
    import transformers

    named = _named_class(read_config(folder))
    with _told(folder):
        config = transformers.AutoConfig.from_pretrained(folder, trust_remote_code=False, local_files_only=True)
    if hasattr(config, "quantization_config"):  # of weights that are read as values
        del config.quantization_config
    family = family_of(config, named, images=images)
    if family is None:
        raise ModelError(f"{folder}: {_why_none(config, named)}")
    with _told(folder):
        with made_in or nullcontext():
            model = getattr(transformers, family.loader).from_config(config, trust_remote_code=False, **options)
        model.tie_weights()
        model.set_experts_implementation(experts)
    return model, family


@contextmanager
def _told(folder: Path) -> Iterator[None]:
    """Tell what a library raises about a config as an error of the model."""
    try:
        yield
    except Exception as error:  # the library raises many kinds, all of them about the user's config
        raise ModelError(f"{folder}: transformers cannot build a model from it: {in_one_line(error)}.") from error


def _why_none(config: Any, named: str | None) -> str:
    """Return one sentence about a config that no family claims."""
    import transformers

    asked = f"config.json asks for {named or 'a model'} of the type {config.model_type}, "
    known = _claimed(config)
    if not known:
        return (
            f"{asked}of which no kind can be searched yet. docs/families.md lists what can be; a language model or a "
            "tower of images inside it may be saved by itself."
        )
    if named is not None and not hasattr(transformers, named):
        return (
            f"{asked}which transformers does not know; if its weights are those of {known[0]}, write that name into "
            "config.json under architectures."
        )
    return (
        f"{asked}of which only {' and '.join(known)} can be searched: models without a head, and other tasks, not yet."
    )


def _claimed(config: Any) -> list[str]:
    """Return the classes of a config's type that a family claims."""
    import transformers

    names = []
    for family in FAMILIES.values():
        built = getattr(transformers, family.loader)._model_mapping.get(type(config), None)  # noqa: SLF001 (its table)
        if built is not None and family.matches(config, built.__name__):
            names.append(built.__name__)
    return list(dict.fromkeys(names))


def _named_class(config: dict[str, Any]) -> str | None:
    """Return the class that a config names, where it names one."""
    names = config.get("architectures")
    return names[0] if isinstance(names, list) and names and isinstance(names[0], str) else None
