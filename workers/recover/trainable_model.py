"""A compressed model that can be trained: its levels' scales, its norms and its biases, and nothing else.

Shape legend: B samples, P scored positions, V classes, E events of the teacher's answers.
"""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn.utils import parametrize
from torch.utils.checkpoint import checkpoint

from space.inventory import ModuleInfo
from space.level import Level
from space.plan import Plan
from workers.evaluate.taught_vectors import TaughtVectors
from workers.evaluate.teacher import Taught, Teacher, mean_of_scored
from workers.families.family import Family
from workers.families.family_table import FAMILIES
from workers.families.load_modules import load_mapped
from workers.kernels.kernel import Tensors
from workers.kernels.stacks import as_matrix, as_parameter
from workers.levels.level_store import LevelStore
from workers.model_inputs import Samples
from workers.recover.trained_weights import TRAINED_WEIGHTS, Trained
from workers.tasks import Workspace

MakeWeight = Callable[[Tensors, Level, Tensor], Any]
"""(a level's tensors, level, the (O, I) dense weight) -> a module without inputs that gives the weight; None: fixed"""


def scaled_weight(tensors: Tensors, level: Level, dense: Tensor) -> Any:
    """Return the weight of a level whose scales are trained; None where they cannot be."""
    make = TRAINED_WEIGHTS.get(level.coding)
    return None if make is None else make(tensors, level, dense.shape[1])


class _AsParameter(nn.Module):
    """A weight in the shape of the parameter that it is."""

    def __init__(self, weight: Any, module: ModuleInfo) -> None:
        super().__init__()
        self.weight, self._site = weight, module.site

    def forward(self, _: Tensor) -> Tensor:
        found: Tensor = self.weight()
        return found if self._site is None else as_parameter(found, self._site)


@dataclass(frozen=True, slots=True)
class TrainableModel:
    """A model of transformers some of whose parameters are functions of trained ones.

    Attributes:
        model: of transformers.
        family: its kind.
        weights: module name -> the weight of its level.
        others: name of a stored tensor -> its trained value.

    """

    model: Any
    family: Family
    weights: Mapping[str, Any]
    others: Mapping[str, Trained]

    def trained(self) -> dict[str, nn.Parameter]:
        """Return what is trained, by names that stay the same."""
        parts = {f"levels.{n}": w for n, w in self.weights.items()} | {f"others.{n}": t for n, t in self.others.items()}
        return {f"{n}.{p}": v for n, part in sorted(parts.items()) for p, v in part.named_parameters()}

    def blocks(self) -> list[Any]:
        """Return its blocks, in order."""
        return [block for _, blocks in self.family.stages(self.model) for block in blocks]

    def recompute_blocks(self) -> None:
        """Keep the inputs of blocks alone for the way back, and run each again there (arXiv 1604.06174, section 4)."""
        for block in self.blocks():
            block.forward = partial(checkpoint, block.forward, use_reentrant=False)

    def kl(self, batch: Samples, taught: Taught) -> Tensor:
        """Return how far the answers to samples are from the dense model's, as the family's question measures it."""
        return self.loss(batch, taught)

    def loss(self, batch: Samples, taught: Taught, temperature: float = 1.0, hard_labels: float = 0.0) -> Tensor:
        """Return what is trained for: how far answers are from the dense model's, and from the text itself.

        Args:
            batch: the samples.
            taught: the dense model's answers to them.
            temperature: distributions are softened by it, and their KL is multiplied by its square.
            hard_labels: the weight of the cross-entropy of the right classes; no use where answers are vectors.

        """
        output = self.model(**self.family.inputs(batch))
        scored, right_bp = self.family.loss(self.family.answers(output), batch)
        scored = scored if scored.dtype is torch.float64 else scored.float()
        if isinstance(taught, TaughtVectors):
            lost_bp = (scored - taught.vectors).square().sum(-1) / 2
        else:
            lost_bp = _kl_divergence(scored / temperature, taught, temperature) * temperature**2
        if hard_labels:
            right = right_bp.clamp_min(0)[..., None]
            lost_bp = lost_bp - hard_labels * scored.log_softmax(-1).gather(-1, right).squeeze(-1)
        lost: Tensor = mean_of_scored(lost_bp, right_bp).mean()
        return lost


def _kl_divergence(logits_bpv: Tensor, teacher: Teacher, temperature: float) -> Tensor:
    """Return (B, P) nats."""
    log_q = logits_bpv.log_softmax(-1)
    log_q = log_q if teacher.likeliest is None else _merged(log_q, teacher.likeliest)
    shares, entropy = teacher.roots.square(), teacher.negative_entropy
    if temperature != 1.0:
        log_p = (2 / temperature * teacher.roots.clamp_min(1e-30).log()).log_softmax(-1)
        shares, entropy = log_p.exp(), torch.linalg.vecdot(log_p.exp(), log_p)
    found: Tensor = entropy - torch.linalg.vecdot(shares.to(log_q.dtype), log_q)
    return found


def _merged(log_q: Tensor, likeliest: Tensor) -> Tensor:
    """Return (B, P, E) log-probabilities of some tokens and of all others together; see `teacher.merge`."""
    chosen = log_q.gather(-1, likeliest.long())
    others = (1 - chosen.exp().sum(-1, keepdim=True)).clamp_min(1e-7).log()
    return torch.cat([chosen, others], -1)


def trainable_model(
    workspace: Workspace, plan: Plan, store: LevelStore, make: MakeWeight = scaled_weight
) -> TrainableModel:
    """Return a plan's model with what can be trained in it; see `MakeWeight` for its levels.

    Raises:
        LevelDamagedError: a level has gone or was damaged.

    """
    stored = load_mapped(Path(workspace.model_folder), workspace.device, ())
    model = stored.model
    for parameter in model.parameters():
        parameter.requires_grad_(requires_grad=False)
    others = {}
    for parameter, tensor in _vectors(model):
        name = stored.stored_name(parameter) if parameter in stored else None
        if name is not None:
            others[name] = Trained(tensor.to(stored.tensor(parameter).dtype), relative=False).to(workspace.device)
            _parametrize(model, parameter, others[name])
    weights = {}
    for module in workspace.inventory.modules:
        if (level := plan[module.name]).is_dense:
            continue
        tensors = {n: t.to(workspace.device) for n, t in store.tensors(module.name, level).items()}
        parameter = model.get_parameter(module.parameter).data
        weight = make(tensors, level, parameter if module.site is None else as_matrix(parameter, module.site))
        if weight is None:
            fixed = store.weight(module.name, level, torch.Size(module.weight.shape))
            value = fixed if module.site is None else as_parameter(fixed, module.site)
            parameter.copy_(value)
            continue
        weights[module.name] = weight.to(workspace.device)
        for name in (module.parameter, *(f"{tied}.weight" for tied in module.tied)):
            _parametrize(model, name, _AsParameter(weights[module.name], module))
    return TrainableModel(model, FAMILIES[workspace.inventory.family], weights, others)


def _vectors(model: nn.Module) -> Iterator[tuple[str, Tensor]]:
    """Yield the parameters that are norms' weights and biases, by name."""
    yield from [(n, p.data) for n, p in model.named_parameters() if p.dim() == 1]


def _parametrize(model: nn.Module, parameter: str, value: nn.Module) -> None:
    owner, _, last = parameter.rpartition(".")
    module = model.get_submodule(owner)
    setattr(module, last, nn.Parameter(torch.empty(0), requires_grad=False))
    parametrize.register_parametrization(module, last, value, unsafe=True)
