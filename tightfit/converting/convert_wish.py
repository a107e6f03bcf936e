"""What somebody asks for who has a plan already, and all that can be refused of it before anything slow."""

from dataclasses import dataclass
from pathlib import Path

from search.request.acceptance import check_positions, check_usable_text
from search.request.model_checks import check_loadable
from search.request.plan_files import read_plan
from search.request.prepare import held_model, is_folder, read_inventory
from space.cost import plan_bytes
from space.inventory import Inventory
from space.level import parse_level
from space.menu import build_space
from space.plan import Plan
from space.spec import JobSpec, make_spec, sequences_of
from space.targets.cache_sites import as_searched
from tightfit.export.early import check_free

_UNUSED_BUDGET = "16bpw"  # a request has one; what a plan takes is what it takes


@dataclass(frozen=True, slots=True)
class ConvertWish:
    """A wish as it was uttered.

    Attributes:
        model: as `submit` takes it.
        plan: a file that `submit --plan` can read.
        target: what it is written as.
        out: a new folder.
        calibration, sequence_length, num_sequences, seed: the text that levels are made with, as `submit` takes them.

    """

    model: str
    plan: str
    target: str
    out: Path
    calibration: str | None = None
    sequence_length: int | None = None
    num_sequences: int | None = None
    seed: int = 0


@dataclass(frozen=True, slots=True)
class Conversion:
    """A checked wish: the target can hold the plan, and there is text for its levels."""

    spec: JobSpec
    folder: Path
    inventory: Inventory
    plan: Plan

    @property
    def weight_bytes(self) -> int:
        """Return the bytes that the files' tensors will take."""
        return plan_bytes(self.inventory, self.plan, self.spec.target).weight_bytes


def accepted(wish: ConvertWish) -> Conversion:
    """Check a wish; no weight is read, unless a tied one is stored twice.

    Raises:
        SpecError: the plan cannot be read, names no module of the model, or has what the target cannot hold; or an
            option cannot be had.
        ModelError: the model cannot be used.
        CalibrationError: the text cannot be read, or is too short.
        OutputError: the folder is taken, or cannot be made.

    """
    values = {"model": wish.model, "target": wish.target, "calibration": wish.calibration, "seed": wish.seed}
    if wish.sequence_length is not None:
        values["sequence_length"] = wish.sequence_length
    if wish.num_sequences is not None:
        values |= sequences_of(wish.num_sequences)
    spec = make_spec(budget=_UNUSED_BUDGET, **values)
    check_free(wish.out)
    folder = held_model(spec)
    inventory = read_inventory(folder, None, images=is_folder(spec.calibration))
    check_loadable(spec.target, folder, inventory)
    levels = {name: parse_level(text) for name, text in read_plan(wish.plan, inventory).items()}
    inventory = as_searched(inventory, list(levels), target=spec.target)
    space = build_space(inventory, spec.menu, spec.target, (), ((wish.plan, levels),))
    check_positions(spec, folder, inventory)
    check_usable_text(spec, folder, inventory)
    return Conversion(spec, folder, inventory, space.given[0][1])
