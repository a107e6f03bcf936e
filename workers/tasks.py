"""What crosses the wire: frozen tasks out, frozen results back."""

from dataclasses import dataclass

from space.inventory import Inventory
from space.level import Level
from space.plan import Plan
from workers.devices import Device
from workers.samples.sample_records import SampleRecords
from workers.text.excerpt import Excerpt
from workers.text.own_questions import OwnQuestion
from workers.text.text_sources import Split
from workers.text.tokens import TextRequest, TokenSet

BATCH = 4
"""sequences per forward; the same everywhere, so that every evaluation rounds alike (15 % faster than 8)"""
WHOLE_VOCABULARY = 8192
"""up to so many tokens each has its probability in the dense model's answers"""
DAMPED_BITS = (2, 3, 4)
"""bit-widths for which it is chosen how much output factors are damped"""
PRICE_FORWARDS = 4
"""token-forwards per token of a gradient pass: there, each block again, and twice that on the way back"""
NUM_LIKELIEST = 1024
"""tokens of a larger vocabulary that have; the others have one together"""


@dataclass(frozen=True, slots=True)
class Workspace:
    """Where a worker finds a model and keeps what it makes of it.

    Attributes:
        model_folder: the dense checkpoint.
        cache_folder: levels, calibration, teacher answers; shared by all workers of a node.
        model_digest: content of the checkpoint.
        inventory: its modules.
        memory_bytes: private memory that a worker may use; None is what its machine leaves it.
        device: what all of a job's workers compute on.
        gpu_share: the part of a GPU that is a worker's, where the device is one.
        sequence_length: tokens of a sequence, for the memory that a batch of logits takes.

    """

    model_folder: str
    cache_folder: str
    model_digest: str
    inventory: Inventory
    memory_bytes: int | None = None
    device: Device = "cpu"
    gpu_share: float = 1.0
    sequence_length: int = 256


@dataclass(frozen=True, slots=True)
class PrepareText:
    """Make the token sequences. Result: TokenSet.

    Attributes:
        request: which text, and how much of it.
        excerpt: the text, from whoever can read its source; None where the model is sampled, or the worker reads it.
            Records where the model's samples are more than tokens.

    """

    request: TextRequest
    excerpt: Excerpt | SampleRecords | None = None


@dataclass(frozen=True, slots=True)
class Calibrate:
    """Collect the statistics that levels are built from. Result: ExpertTokens; None where there are no experts."""

    tokens: TokenSet


@dataclass(frozen=True, slots=True)
class CompileLoops:
    """Compile what levels are built by, for a worker that has nothing better to do. Result: None.

    Attributes:
        levels: some of each kind that will be built.

    """

    levels: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class ChooseDamping:
    """Choose how much output factors are damped for values of so many bits, by search text. Result: None."""

    tokens: TokenSet
    bits: int


@dataclass(frozen=True, slots=True)
class Teach:
    """Compute the dense model's answers on a split. Result: its perplexity, a float."""

    tokens: TokenSet
    split: Split


@dataclass(frozen=True, slots=True)
class PriceModules:
    """Tell what errors of each module cost, by one gradient pass over search text. Result: ModulePrices.

    Attributes:
        tokens: the text.
        num_sequences: of it, the first so many.

    """

    tokens: TokenSet
    num_sequences: int


@dataclass(frozen=True, slots=True)
class ModulePrices:
    """What errors cost before anything is measured.

    Attributes:
        prices: (module name, KL divergence per token that a relative output error of one adds, to first order) pairs;
            none where the model cannot be differentiated.
        token_forwards: what the pass cost.
        seconds: time in the worker.
        reason: why there are none.

    """

    prices: tuple[tuple[str, float], ...]
    token_forwards: float = 0.0
    seconds: float = 0.0
    reason: str | None = None


@dataclass(frozen=True, slots=True)
class BuildLevels:
    """Build a module's levels. Result: tuple of LevelRecord, dominated levels left out.

    Attributes:
        tokens: calibration.
        module_name: the module.
        sizes: (level, stored bytes) pairs to consider.
        required: levels that stay even if dominated (uniform and pinned ones).

    """

    tokens: TokenSet
    module_name: str
    sizes: tuple[tuple[Level, int], ...]
    required: tuple[Level, ...]


@dataclass(frozen=True, slots=True)
class LevelRecord:
    """A level that can be used: its bytes and calibrated relative output error."""

    level: Level
    size_bytes: int
    output_error: float


@dataclass(frozen=True, slots=True)
class Evaluate:
    """Measure a plan. Result: Measurement.

    Attributes:
        tokens: the text.
        plan: what to measure.
        split: on which text.
        num_sequences: only so many sequences; None is all.
        first_sequence: the first of them.
        sketch: also return how the plan changes the answers (see workers/evaluate/sketch.py).

    """

    tokens: TokenSet
    plan: Plan
    split: Split
    num_sequences: int | None = None
    first_sequence: int = 0
    sketch: bool = False


@dataclass(frozen=True, slots=True)
class AskQuestions:
    """Ask a plan a user's own questions. Result: OwnAnswers.

    Attributes:
        tokens: what its levels were calibrated on.
        plan: what to ask.
        questions: all of them.

    """

    tokens: TokenSet
    plan: Plan
    questions: tuple[OwnQuestion, ...]


@dataclass(frozen=True, slots=True)
class OwnAnswers:
    """Answers to questions, in their order.

    Attributes:
        answers: place of the choice, or the likeliest tokens where there is no choice.
        is_right: whether it is the right one.
        token_forwards: what they cost.

    """

    answers: tuple[str, ...]
    is_right: tuple[bool, ...]
    token_forwards: float


TextlessTask = PrepareText | CompileLoops
"""what needs no text that another task made"""
DependentTask = BuildLevels | ChooseDamping | Evaluate | AskQuestions
"""what stands on statistics, answers or levels that other tasks made"""
Task = TextlessTask | Calibrate | Teach | PriceModules | DependentTask
