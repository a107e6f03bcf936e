"""Load an exported folder in a fresh process and say what it really holds: `python -m workers.runtime.reload`.

Reads one JSON request on stdin and prints one JSON answer on stdout. The exported files are judged twice: against the
recorded KL, and against the searched model's own logits.
"""

import json
import math
import sys
from collections.abc import Sequence
from contextlib import redirect_stdout
from dataclasses import asdict, dataclass
from pathlib import Path

import torch

from space.measurement import Measurement
from space.plan import Plan
from workers.evaluate.quality import sequence_quality
from workers.evaluate.teacher import read_teacher
from workers.families.blocks import BlockRunner
from workers.families.family_table import FAMILIES
from workers.families.read_inventory import inspect_searched
from workers.runtime.fast_check import fast_strays
from workers.runtime.loaders.exported_loaders import HUGGING_FACE, LOADERS, ExportedLoader
from workers.tasks import BATCH, Workspace
from workers.text.tokens import TokenSet
from workers.worker import Worker

_LOGIT_SEQUENCES = 2


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
        runtime: what the target's own runtime, where it is installed, measured on the same text: its name and the KL
            of its logits (where it is slow: this one's, and what it differs by on the first sequences); None where it
            is not.
        fast: the largest difference that fast kernels make to logits, as a share of their range, and the KL divergence
            of the plain path to them, in nats; None where nothing is packed.

    """

    problems: dict[str, list[str]]
    logit_difference: float
    kl_divergence: float
    sequence_kl: tuple[float, ...]
    perplexity: float
    runtime: tuple[str, float] | None = None
    fast: tuple[float, float] | None = None


def reload(
    folder: Path, plan: Plan, workspace: Workspace, tokens: TokenSet, loader: ExportedLoader = HUGGING_FACE
) -> ReloadAnswer:
    """Measure the exported folder and compare it with the searched model."""
    family, source = FAMILIES[workspace.inventory.family], Path(workspace.model_folder)
    model, problems = loader.load(source, folder, workspace.device, family.loader, plan)
    problems |= loader.tokenizer_problems(source, folder)
    runner, text = BlockRunner(model, family), tokens.load("held_out").to(workspace.device)
    problems |= family.problems(model, text[:1])
    worker = Worker(workspace)
    with torch.no_grad():
        logits = runner.logits(text[:BATCH])[:_LOGIT_SEQUENCES]
        searched = next(worker.logits(plan, tokens, [text[:BATCH]]))[:_LOGIT_SEQUENCES]
        teacher = read_teacher(worker.teacher_path(tokens, "held_out"))
        batches = text.split(BATCH)
        kl, loss = sequence_quality(map(runner.logits, batches), batches, teacher, family.loss)
    fast = fast_strays(model, runner.logits, text[:_LOGIT_SEQUENCES])
    difference = float((logits.float() - searched.float()).abs().max())
    found = Measurement.of_sequences(kl, loss, teacher.num_scored, 0.0, 0.0)
    asked = loader.in_runtime(folder, text, teacher, family, plan)
    runtime = None if asked is None else _told(*asked, found)
    return ReloadAnswer(problems, difference, found.kl_divergence, found.sequence_kl, found.perplexity, runtime, fast)


def _told(runtime: str, theirs: Sequence[float], own: Measurement) -> tuple[str, float]:
    """Return a runtime's name and its KL on all text, as far as it was asked."""
    count, whole = len(theirs), len(own.sequence_kl)
    if count == whole:
        return runtime, math.fsum(theirs) / whole
    difference = math.fsum(their - ours for their, ours in zip(theirs, own.sequence_kl, strict=False)) / count
    return f"{runtime} ({count} of {whole} sequences)", own.kl_divergence + difference


def main() -> None:
    """Answer the request on stdin; whatever libraries print goes to stderr."""
    request = json.loads(sys.stdin.read())
    torch.set_num_threads(1)
    with redirect_stdout(sys.stderr):
        model_folder = request["model_folder"]
        plan = Plan.from_json(request["plan"])
        inventory = inspect_searched(Path(model_folder), [name for name, _ in plan.levels])
        cache, content = request["cache_folder"], request["model_digest"]
        workspace = Workspace(model_folder, cache, content, inventory, device=request["device"])
        answer = reload(
            Path(request["folder"]),
            plan,
            workspace,
            TokenSet.from_json(request["tokens"]),
            LOADERS[request["target"]],
        )
    print(json.dumps(asdict(answer)))


if __name__ == "__main__":
    main()
