"""The state of a training on disk: what is trained, the optimizer's moments, the best so far and how far it is.

The order of the text and the learning rate follow from the step, so that a step number is the whole position. A state
is written beside and renamed; one that cannot be read counts as none.
"""

import json
from collections.abc import Mapping
from dataclasses import asdict, dataclass, field, fields
from pathlib import Path

import torch
from safetensors import SafetensorError, safe_open
from torch import Tensor, nn

from workers.recover.sharded.crew import ALONE, Crew, as_divided
from workers.whole_files import write_safetensors

_MOMENTS = ("exp_avg", "exp_avg_sq")


@dataclass(frozen=True, slots=True)
class Judged:
    """A look at the selection text.

    Attributes:
        step: after so many.
        training_kl: mean loss of the steps since the last look, nats per token.
        selection_kl: nats per token.
        learning_rate: of the last step.
        tokens_per_second: of computing, since the last look.
        seconds: of computing so far.

    """

    step: int
    training_kl: float
    selection_kl: float
    learning_rate: float
    tokens_per_second: float
    seconds: float = 0.0


@dataclass(frozen=True, slots=True)
class TrainingState:
    """How far a training is.

    Attributes:
        steps: of its whole course.
        judged: the looks at the selection text so far.
        best: what was trained, as it was best.
        step: that were made.
        kept_step: after which it was best.
        diverged: whether it went wrong.
        seconds: of computing, over all runs together.
        judged_at: of them, at the last look.
        losses: of the steps since then.
        rate: the learning rate of the last step.

    """

    steps: int
    judged: tuple[Judged, ...]
    best: Mapping[str, Tensor]
    step: int = 0
    kept_step: int = 0
    diverged: bool = False
    seconds: float = 0.0
    judged_at: float = 0.0
    losses: tuple[float, ...] = field(default=())
    rate: float = 0.0


def write_state(
    path: Path,
    state: TrainingState,
    parameters: Mapping[str, nn.Parameter],
    optimizer: torch.optim.Optimizer,
    crew: Crew = ALONE,
) -> None:
    """Write a state in place of the one before, whole, by the first of several processes. Raises OutputError."""
    tensors = {f"best.{name}": value.contiguous() for name, value in crew.whole(state.best).items()}
    now = crew.whole({name: parameter.detach() for name, parameter in parameters.items()})
    tensors |= {f"now.{name}": value.contiguous() for name, value in now.items()}
    for name, moments in crew.moments(optimizer, parameters).items():
        tensors |= {f"{m}.{name}": moments[m].contiguous() for m in _MOMENTS if m in moments}
    if crew.rank:
        return
    plain = {f.name: getattr(state, f.name) for f in fields(state) if f.name != "best"}
    plain["judged"] = [asdict(j) for j in state.judged]
    write_safetensors(path, {n: t.cpu().clone() for n, t in tensors.items()}, {"state": json.dumps(plain)})


def read_state(
    path: Path, parameters: Mapping[str, nn.Parameter], optimizer: torch.optim.Optimizer, crew: Crew = ALONE
) -> TrainingState | None:
    """Put a state into the parameters and the optimizer and return it; None where there is none for them."""
    try:
        with safe_open(path, framework="pt") as file:
            found = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118 (not a mapping)
            plain = json.loads(file.metadata()["state"])
    except (OSError, SafetensorError, KeyError, TypeError, ValueError):
        return None
    if any(found.get(f"now.{name}", torch.empty(0)).shape != p.shape for name, p in parameters.items()):
        return None
    with torch.no_grad():
        for name, parameter in parameters.items():
            parameter.copy_(as_divided(found[f"now.{name}"], parameter))
            if f"{_MOMENTS[0]}.{name}" in found:
                moments = {m: found[f"{m}.{name}"] for m in _MOMENTS}
                crew.remember(optimizer, parameter, {"step": torch.tensor(float(plain["step"])), **moments})
    best = {name: as_divided(found[f"best.{name}"], p) for name, p in parameters.items()}
    judged = tuple(Judged(**j) for j in plain["judged"])
    return TrainingState(**{**plain, "best": best, "judged": judged, "losses": tuple(plain["losses"])})
