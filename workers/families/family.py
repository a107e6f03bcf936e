"""What every family tells of itself: how its models are built, cut into blocks, fed and judged."""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from torch import Tensor, nn

from space.inventory import CacheLayer, ModuleInfo
from space.question import QUESTIONS, Question
from workers.families.block_stacks import Stacks
from workers.families.stored_names import StoredNames
from workers.models.headers import StoredTensor


@dataclass(frozen=True, slots=True)
class Seen:
    """What two forwards of a model show.

    Attributes:
        cache: what each layer keeps of a sequence, in the type of the config; None: the model does not hand it out.
        bypassed: linear layers and embeddings that nothing calls, while code takes their weight for itself.
        unused: those that nothing asks for.

    """

    cache: tuple[CacheLayer, ...] | None = None
    bypassed: frozenset[str] = frozenset()
    unused: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Structure:
    """A model as its family looks for sites in it.

    Attributes:
        folder: where it is stored.
        model: on the meta device.
        stored: its tensors by name.
        names: which of them its parameters are made of.
        searched: name of a module or parameter -> whether levels may go there; the others are carried over.
        stacks: its lists of blocks.
        seen: what its forward showed.

    """

    folder: Path
    model: nn.Module
    stored: Mapping[str, StoredTensor]
    names: StoredNames
    searched: Callable[[str], bool]
    stacks: Stacks
    seen: Seen


@dataclass(frozen=True, slots=True)
class Family:
    """One kind of model, and the question that plans of it are judged by.

    Shape legend: B sequences, T tokens, P scored positions, V classes (of the vocabulary, say).

    Attributes:
        name: as inventories name it.
        loader: the name of transformers' class that builds its models from a config, and loads their exports.
        matches: (config, the class that it names, if any) -> whether this is the kind of model.
        searched: model -> what tells by name whether a module or parameter is searched.
        sites: where levels may go, in forward order.
        stages: model -> its lists of blocks, with their names, in the order they run. Raises ModelError.
        head: model -> the module that makes its answers of what the last block gives; None: there is none.
        inputs: samples -> the arguments of the model's forward.
        answers: what the forward returns -> logits, positions before classes: (B, T, V).
        loss: (logits, samples) -> (B, P, V) logits of the scored positions, and the (B, P) right classes: negative
            at positions that are not scored after all. Where the question asks for vectors, they are of length one.
        cache: model on the meta device -> what it keeps of a sequence. Raises ModelError.
        sample: (model, (B, T) tokens, what it returned before or None) -> (B, V) logits of the next token, and what
            to give it next time; None: text cannot be sampled from such a model.
        problems: (exported model, one sample) -> why it cannot be used as its users do, kind -> sentences.

    """

    name: str
    loader: str
    matches: Callable[[Any, str | None], bool]
    searched: Callable[[Any], Callable[[str], bool]]
    sites: Callable[[Structure], list[ModuleInfo]]
    stages: Callable[[nn.Module], Stacks]
    head: Callable[[Any], nn.Module | None]
    inputs: Callable[[Any], dict[str, Any]]
    answers: Callable[[Any], Tensor]
    loss: Callable[[Tensor, Any], tuple[Tensor, Tensor]]
    cache: Callable[[Any], Seen]
    sample: Callable[[Any, Tensor, Any], tuple[Tensor, Any]] | None
    problems: Callable[[Any, Any], dict[str, list[str]]]

    @property
    def question(self) -> Question:
        """Return what its models are judged by."""
        return QUESTIONS[self.name]
