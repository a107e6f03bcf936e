"""The options of a request, as help shows them and shells complete them; `options` reads their text."""

from collections.abc import Sequence
from pathlib import Path
from typing import Annotated, Any

import typer

from space.results.recovery_names import AUTO, RECOVERY_NAMES
from space.targets.target_table import TARGETS
from space.targets.vllm_target import VLLM
from tightfit.cli.base import complete_job

PRESETS = ("quick", "balanced", "thorough")
SAMPLERS = ("front", "nsga2", "tpe", "random")


def one_of(values: Sequence[str], *names: str, help: str) -> Any:  # noqa: A002 (typer's word)
    """Return an option that takes one of some values: help shows them, shells complete them, and we check them."""
    return typer.Option(*names, help=help, metavar=f"[{'|'.join(values)}]", autocompletion=lambda: list(values))


Model = Annotated[str | None, typer.Argument(help="A local folder, `org/name[@revision]`, or `bundled`.")]
Budget = Annotated[str | None, typer.Option(help="`4GiB`, `3.5MB`, `60%` of dense, `3.25bpw`, `30tok/s@273GB/s`.")]
DeviceMemory = Annotated[
    str | None,
    typer.Option(
        help="`24GiB` of a device that holds weights, cache and runtime, in the place of --budget or beside it; needs "
        "--context."
    ),
]
Preset = Annotated[
    str | None,
    one_of(PRESETS, help="How much work; `--dry-run` shows all that it sets [default: balanced]."),
]
Config = Annotated[
    Path | None, typer.Option(help="A TOML or JSON file of a request, such as `--dry-run --out` writes it.")
]
Out = Annotated[Path | None, typer.Option(help="With --dry-run: write the whole request to this file, for --config.")]
Context = Annotated[int, typer.Option(help="Tokens of key/value cache inside the budget.")]
Batch = Annotated[int, typer.Option(help="Sequences of key/value cache inside the budget.")]
Calibration = Annotated[
    str | None,
    typer.Option(
        help="File of text, JSONL, CSV or Parquet, folder of sounds or images, `self` (chats of a chat model with "
        "itself), `python-stdlib`, or a dataset name [default: sampled]."
    ),
]
SequenceLength = Annotated[int | None, typer.Option(help="Tokens of each sequence of text [default: 256].")]
NumSequences = Annotated[
    int | None, typer.Option(help="Sequences to calibrate on; a quarter to search, half to judge [default: 128].")
]
Target = Annotated[str, one_of(tuple(TARGETS), help="What the result is written as.")]
GpuGeneration = Annotated[
    str | None,
    one_of(
        tuple(VLLM.generations), help="Hardware that a result for vLLM is for: levels without a kernel are left out."
    ),
]
Judge = Annotated[
    str | None,
    typer.Option(
        metavar="FILE",
        help="JSONL file of your own questions (`prompt` and `answer`, or `choices`): every judged point is asked.",
    ),
]
Experts = Annotated[
    str, one_of(("tied", "apart"), help="A level for all experts of a block per projection, or one for each expert.")
]
Bits = Annotated[str | None, typer.Option(help="Such as `2,3,4`.")]
GroupSize = Annotated[str | None, typer.Option(help="Such as `32,64,channel`.")]
Sparsity = Annotated[str | None, typer.Option(help="Such as `0,0.5,2:4`.")]
Rank = Annotated[str | None, typer.Option(help="Such as `0,16`.")]
Kind = Annotated[
    str | None,
    typer.Option(help="Such as `integer,rotated-trellis`; left out: what is usual for the target (docs/levels.md)."),
]
CacheBits = Annotated[
    str | None, typer.Option(help="Bits of keys and values to choose from, such as `16,8,4`; needs --context.")
]
Pin = Annotated[list[str] | None, typer.Option(help="`REGEX=LEVEL`, such as `down_proj=b4-g64-s0.5-r16`.")]
PlanFile = Annotated[
    list[str] | None,
    typer.Option("--plan", help="File of another tool's plan, to measure beside the front (docs/search.md)."),
]
Sampler = Annotated[str, one_of(SAMPLERS, help="Who proposes plans.")]
MaxTrials = Annotated[
    int | None, typer.Option(help="Most plans to measure, probes included [default: as many as the model needs].")
]
MaxMinutes = Annotated[
    float | None, typer.Option(help="Stop searching after this time; a resumed job starts to count again.")
]
Refine = Annotated[bool, typer.Option("--refine", help="Search on even where earlier jobs know enough.")]
Recover = Annotated[
    str | None, one_of((AUTO, *RECOVERY_NAMES), help="Make the recommended point better after the search.")
]
NumWorkers = Annotated[int, typer.Option("--workers", help="Ray workers.")]
WorkerMemory = Annotated[
    str | None, typer.Option(help="What each worker may take, such as `8GiB` [default: a share of what is left].")
]
Seed = Annotated[int, typer.Option(help="Seed of everything random.")]
Like = Annotated[
    str | None, typer.Option(help="A job whose request counts where no option is given.", autocompletion=complete_job)
]
DryRun = Annotated[bool, typer.Option("--dry-run", help="Show sizes and costs; read no weights.")]
