"""What the KL of 8-bit inputs depends on: the same plan with inputs rounded by one rule and by another.

    python -m benchmarks.targets.input_rounding --home DIR

The bundled model with all layers of its blocks at one level, on held-out text of the standard library. vLLM's kernel
for integers has 127 steps on each side of zero and multiplies by the reciprocal of a step; compressed-tensors has 127.5
steps, divides, and clips what lies outside. For 8-bit floats both do the same.
"""

import argparse
import json
from collections.abc import Callable, Mapping
from pathlib import Path

import torch
from compressed_tensors.quantization import QuantizationArgs
from compressed_tensors.quantization.lifecycle.forward import fake_quantize
from compressed_tensors.quantization.utils import compute_dynamic_scales_and_zp
from torch import Tensor, nn

from search.job.text_and_levels import text_source
from search.measure.answer_keys import text_request
from space.level import DENSE, parse_level
from space.plan import Plan
from space.spec import make_spec, sequences_of
from space.targets.target_table import is_legal
from workers.families.read_inventory import inspect_model
from workers.kernels.inputs.input_table import ROUNDED
from workers.models.model_files import model_digest, resolve_model
from workers.tasks import Evaluate, PrepareText, Workspace
from workers.worker import Worker

ROOT = Path(__file__).resolve().parent.parent.parent
RESULT = ROOT / "benchmarks" / "results" / "targets_inputs.json"
Rule = Callable[[Tensor], Tensor]


def _of_compressed_tensors(kind: str) -> Rule:
    args = QuantizationArgs(num_bits=8, type=kind, symmetric=True, strategy="token", dynamic=True)

    def rounded(inputs: Tensor) -> Tensor:
        scale, zero = compute_dynamic_scales_and_zp(value=inputs, args=args, module=nn.Identity())
        found: Tensor = fake_quantize(inputs, scale, zero, args)
        return found

    return rounded


def _steps(number: float) -> Rule:
    def rounded(inputs: Tensor) -> Tensor:
        scale = (inputs.abs().amax(-1, keepdim=True) / number).clamp_min(1e-12)
        return (inputs / scale).round().clamp(-128, 127) * scale

    return rounded


RULES: Mapping[str, Mapping[str, Rule]] = {
    "b8-gch-a8": {
        "vllm": ROUNDED["int8"],
        "compressed-tensors": _of_compressed_tensors("int"),
        "127 steps, by division": _steps(127),
        "127.5 steps, by division": _steps(127.5),
        "128 steps, by division": _steps(128),
        "not rounded": lambda inputs: inputs,
    },
    "b8-gch-f-af8": {"vllm": ROUNDED["float8"], "compressed-tensors": _of_compressed_tensors("float")},
}
"""level -> name of a rule -> (B, T, I) inputs as it rounds them"""


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a folder for text and levels")
    parser.add_argument("--num-sequences", type=int, default=32, help="to calibrate on; half as many are judged")
    options = parser.parse_args()
    torch.set_num_threads(1)
    folder = resolve_model("bundled")
    inventory = inspect_model(folder)
    spec = make_spec(model="bundled", budget="8bpw", calibration="python-stdlib", **sequences_of(options.num_sequences))
    workspace = Workspace(str(folder), str(options.home), model_digest(folder), inventory)
    request = text_request(spec)
    tokens = Worker(workspace).run(PrepareText(request, text_source(request, inventory, folder)))
    found: dict[str, dict[str, float]] = {}
    for text, rules in RULES.items():
        level = parse_level(text)
        plan = Plan.of({m.name: level if is_legal(m, level, "vllm") else DENSE for m in inventory.modules})
        task = Evaluate(tokens, plan, "held_out")
        Worker(workspace).provide(task)
        usual = ROUNDED[level.inputs]
        for name, rule in rules.items():
            ROUNDED[level.inputs] = rule
            found.setdefault(text, {})[name] = Worker(workspace).run(task).kl_divergence
            print(text, name, found[text][name], flush=True)
        ROUNDED[level.inputs] = usual
    record = {"model": "bundled", "num_sequences": options.num_sequences, "kl_divergence": found}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
