"""What shifting ranges from inputs into weights (SmoothQuant, arXiv 2211.10438) is worth where inputs have 8 bits.

    python -m benchmarks.targets.smoothing --home DIR

Columns of the inputs of q, k, v and of gate, up are divided by s, and those of the weights multiplied by it; the norm
before them takes 1/s up, so that the dense model stays what it is. For down, whose inputs are a product with up's
outputs, up's rows take it. s = max|X|^a / max|W|^(1-a), column by column (the paper's equation 4). All layers of the
blocks are then at one level, on held-out text of the standard library; a = 0 has every column of the weights alike, and
"as it is" nothing shifted.
"""

import argparse
import json
import shutil
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.targets.input_rounding import ROOT
from search.job.text_and_levels import text_source
from search.measure.answer_keys import text_request
from space.level import DENSE, parse_level
from space.plan import Plan
from space.spec import make_spec, sequences_of
from space.targets.target_table import is_legal
from workers.families.read_inventory import inspect_model
from workers.models.model_files import model_digest, resolve_model
from workers.tasks import Evaluate, PrepareText, Workspace
from workers.worker import Worker

RESULT = ROOT / "benchmarks" / "results" / "targets_smoothing.json"
LEVELS = ("b8-gch-a8", "b8-gch-f-af8")
SHARES = (None, 0.25, 0.5, 0.75)
"""a of equation 4; None: nothing is shifted"""


def _groups(block: Any) -> Iterator[tuple[Tensor, list[nn.Linear]]]:
    """Yield what stands before linear layers, (D,) or (D, .) with one row for each of their inputs, and the layers."""
    yield block.input_layernorm.weight, [block.self_attn.q_proj, block.self_attn.k_proj, block.self_attn.v_proj]
    yield block.post_attention_layernorm.weight, [block.mlp.gate_proj, block.mlp.up_proj]
    yield block.mlp.up_proj.weight, [block.mlp.down_proj]


@torch.no_grad()
def smoothed(folder: Path, to: Path, sequences: Tensor, share: float) -> Path:
    """Write the model whose ranges are shifted, in float32; return its folder."""
    import transformers

    model = transformers.AutoModelForCausalLM.from_pretrained(folder, dtype=torch.float32).eval()
    largest: dict[nn.Module, Tensor] = {}

    def see(layer: nn.Module, inputs: Sequence[Tensor]) -> None:
        found = inputs[0].abs().flatten(0, -2).amax(0)
        largest[layer] = torch.maximum(largest.get(layer, found), found)

    hooks = [m.register_forward_pre_hook(see) for m in model.modules() if isinstance(m, nn.Linear)]
    for batch in sequences.split(8):
        model(batch)
    for hook in hooks:
        hook.remove()
    for block in model.model.layers:
        for before, layers in _groups(block):
            weights = torch.stack([layer.weight.abs().amax(0) for layer in layers]).amax(0)
            scale = (largest[layers[0]].clamp_min(1e-5) ** share / weights.clamp_min(1e-5) ** (1 - share)).clamp_min(
                1e-5
            )
            before.div_(scale.view(-1, *[1] * (before.dim() - 1)))
            for layer in layers:
                layer.weight.mul_(scale)
    model.save_pretrained(to)
    for name in ("tokenizer.json", "tokenizer_config.json"):
        shutil.copy(folder / name, to / name)
    return to


def main() -> None:
    """Measure, print and write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--home", type=Path, required=True, help="a folder for models, text and levels")
    parser.add_argument("--num-sequences", type=int, default=64, help="to calibrate on; half as many are judged")
    options = parser.parse_args()
    torch.set_num_threads(1)
    dense = resolve_model("bundled")
    inventory = inspect_model(dense)
    spec = make_spec(model="bundled", budget="8bpw", calibration="python-stdlib", **sequences_of(options.num_sequences))
    request = text_request(spec)
    found: dict[str, dict[str, float]] = {}
    for share in SHARES:
        folder, named = dense, "as it is" if share is None else str(share)
        workspace = Workspace(str(folder), str(options.home / named), model_digest(folder), inventory)
        tokens = Worker(workspace).run(PrepareText(request, text_source(request, inventory, folder)))
        if share is not None:
            folder = smoothed(dense, options.home / f"model-{named}", tokens.load("calibration"), share)
            workspace = Workspace(str(folder), workspace.cache_folder, model_digest(folder), inspect_model(folder))
        for text in LEVELS:
            level = parse_level(text)
            plan = Plan.of({m.name: level if is_legal(m, level, "vllm") else DENSE for m in inventory.modules})
            task = Evaluate(tokens, plan, "held_out")
            worker = Worker(workspace)
            worker.provide(task)
            measured = worker.run(task)
            found.setdefault(text, {})[named] = measured.kl_divergence
            print(text, named, found[text][named], flush=True)
    record = {"model": "bundled", "num_sequences": options.num_sequences, "kl_divergence": found}
    RESULT.write_text(json.dumps(record, indent=1) + "\n", encoding="utf-8")


if __name__ == "__main__":
    main()
