"""Load an exported folder in a fresh process and say what it really holds: `python -m workers.runtime.reload`.

Reads one JSON request on stdin and prints one JSON answer on stdout. The exported files are judged twice: against the
recorded KL, and against the searched model's own logits.
"""

import json
import sys
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import torch

from space.measurement import Measurement
from space.plan import Plan
from workers.devices import Device, compute_dtype
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import read_teacher
from workers.families.blocks import BlockRunner
from workers.families.family_table import FAMILIES
from workers.families.read_inventory import inspect_model
from workers.tasks import BATCH, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker

_LOGIT_SEQUENCES = 2
_PROMPT_TOKENS = 8


@dataclass(frozen=True, slots=True)
class ReloadAnswer:
    """What a fresh process found in an exported folder.

    Attributes:
        problems: loader's report, kind of key -> names, and what is wrong with tokenizer or generating; empty when
            every key was used, none is missing, the tokenizer is the searched model's, and the model generates.
        logit_difference: largest absolute difference to the searched model's logits.
        kl_divergence: on held-out text, nats per token.
        sequence_kl: the same of each sequence.
        perplexity: on held-out text.

    """

    problems: dict[str, list[str]]
    logit_difference: float
    kl_divergence: float
    sequence_kl: tuple[float, ...]
    perplexity: float


def load_exported(
    folder: Path, device: Device = "cpu", loader: str = "AutoModelForCausalLM"
) -> tuple[Any, dict[str, list[str]]]:
    """Return the model as searches run it, and the loader's report: missing, unexpected, mismatched keys."""
    import transformers

    import workers.runtime.transformers_hook  # noqa: F401 (registers the packed format)

    model, report = getattr(transformers, loader).from_pretrained(
        folder,
        dtype=compute_dtype(device),
        use_safetensors=True,
        trust_remote_code=False,
        local_files_only=True,
        output_loading_info=True,
    )
    return model.eval().to(device), {kind: sorted(map(str, keys)) for kind, keys in report.items() if keys}


def tokenizer_problems(source: Path, exported: Path) -> dict[str, list[str]]:
    """Return how an export's tokenizer differs from the searched model's, where that has one."""
    from transformers import AutoTokenizer

    def load(folder: Path) -> Any:
        return AutoTokenizer.from_pretrained(folder, trust_remote_code=False, local_files_only=True)

    try:
        searched = load(source)
    except Exception:  # noqa: BLE001 (a model without a tokenizer that loads here promises none)
        return {}
    try:
        found = load(exported)
    except Exception as error:  # noqa: BLE001 (tokenizers raise whatever they like)
        return {"tokenizer": [f"cannot be loaded ({_first_line(error)})"]}
    differs = []
    if found.get_vocab() != searched.get_vocab():
        differs.append("its vocabulary is not the searched model's")
    if getattr(found, "chat_template", None) != getattr(searched, "chat_template", None):
        differs.append("its chat template is not the searched model's")
    return {"tokenizer": differs} if differs else {}


def _first_line(error: Exception) -> str:
    return (str(error).splitlines() or [""])[0] or type(error).__name__


def reload(folder: Path, plan: Plan, workspace: Workspace, tokens: TokenSet) -> ReloadAnswer:
    """Measure the exported folder and compare it with the searched model."""
    family = FAMILIES[workspace.inventory.family]
    model, problems = load_exported(folder, workspace.device, family.loader)
    problems |= tokenizer_problems(Path(workspace.model_folder), folder)
    runner, text = BlockRunner(model, family), tokens.load("held_out").to(workspace.device)
    problems |= family.problems(model, text[:1, :_PROMPT_TOKENS])
    worker = Worker(workspace)
    with torch.no_grad():
        logits = runner.logits(text[:BATCH])[:_LOGIT_SEQUENCES]
        searched = worker.logits(plan, tokens, text[:BATCH])[:_LOGIT_SEQUENCES]
        teacher = read_teacher(worker.teacher_path(tokens, "held_out"))
        batches = text.split(BATCH)
        kl, loss = sequence_quality(map(runner.logits, batches), batches, teacher, family.loss)
    difference = float((logits.float() - searched.float()).abs().max())
    found = Measurement.of_sequences(kl, loss, teacher.roots.shape[1], 0.0, 0.0)
    return ReloadAnswer(problems, difference, found.kl_divergence, found.sequence_kl, found.perplexity)


def main() -> None:
    """Answer the request on stdin; whatever libraries print goes to stderr."""
    request = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):
        model_folder = request["model_folder"]
        inventory = inspect_model(Path(model_folder))
        cache, content = request["cache_folder"], request["model_digest"]
        workspace = Workspace(model_folder, cache, content, inventory, device=request["device"])
        answer = reload(
            Path(request["folder"]), Plan.from_json(request["plan"]), workspace, TokenSet.from_json(request["tokens"])
        )
    print(json.dumps(asdict(answer)))


if __name__ == "__main__":
    main()
