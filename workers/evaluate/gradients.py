"""What errors of each module cost, from one gradient pass: the first prices of a search, before any plan is measured.

To second order an error d in a module's outputs adds ½ d' F d to the KL divergence, where F is the Fisher matrix of the
model's own answers: the mean of g g' over next tokens drawn from these answers, g the gradient of their loss. Errors of
quantization are nearly independent noise that is spread over the outputs of a module as its values are, so that a
relative output error of one costs, per scored token,

    price = ½ / P Σ_o (Σ_t g_to²) (Σ_t y_to²) / S.

This is the diagonal form of NVIDIA Model Optimizer's gradient score, with the model's own answers in place of the text,
and one price for all levels of a module, whose output errors are known, in place of a forward for each.

Shape legend: B sequences, T tokens, P scored positions, S summed positions, O outputs.
"""

from dataclasses import dataclass

import torch
from torch import Tensor

from space.inventory import Inventory
from workers.families.input_embedding import hidden_size
from workers.model_inputs import Samples
from workers.run.backward_pass import BackwardPass, uses
from workers.run.engine import Engine

_KEPT_BYTES = 2**28  # of block outputs on the way back


@dataclass
class _Energy:
    """What one use of a module has summed up: (O,) squares of gradients and of outputs, over so many positions."""

    gradient: Tensor
    output: Tensor
    count: int = 0

    def add(self, gradient: Tensor, output: Tensor) -> None:
        self.gradient += gradient.flatten(0, -2).double().square().sum(0)
        self.output += output.flatten(0, -2).double().square().sum(0)
        self.count += gradient[..., 0].numel()

    @property
    def noise(self) -> float:
        """Return twice the KL, summed over positions, that a relative output error of one adds."""
        return float((self.gradient * self.output).sum()) / self.count


class GradientPass:
    """One pass of a model over some text; prices are there once it has run."""

    def __init__(self, engine: Engine, inventory: Inventory, seed: int = 0) -> None:
        """Remember the parts; `seed` is of the drawn answers."""
        self._engine, self._inventory = engine, inventory
        self._energies: dict[str, _Energy] = {}
        self._pass = BackwardPass(engine, inventory.modules, self._take, seed)

    def prices(self, samples: Samples) -> dict[str, float]:
        """Return module name -> KL divergence per token that a relative output error of one adds, to first order.

        Modules that the loss does not depend on have none.

        Raises:
            RuntimeError: torch cannot differentiate the model.

        """
        length = samples.numel() // len(samples)
        for chunk in samples.to(self._engine.device).split(self._chunk(length)):
            rows = list(chunk.split(1))
            self._pass.back(rows, self._pass.forward(rows))
        found = self._energies
        noise = {m.name: [found[n].noise for n in uses(m) if n in found] for m in self._inventory.modules}
        return {name: sum(of) / 2 / self._pass.num_scored for name, of in noise.items() if of}

    def _chunk(self, length: int) -> int:
        """Return how many sequences go there and back together: as many as there is room for their block outputs."""
        runner = self._engine.runner
        return max(1, int(_KEPT_BYTES // (4 * length * hidden_size(runner.model) * runner.num_blocks)))

    def _take(self, name: str, gradient: Tensor, output: Tensor) -> None:
        if name not in self._energies:
            zeros = torch.zeros(output.shape[-1], dtype=torch.float64, device=output.device)
            self._energies[name] = _Energy(zeros, zeros.clone())
        self._energies[name].add(gradient, output.detach())
