"""All that a user may ask of a job: the only place of configuration."""

from collections.abc import Callable, Mapping
from dataclasses import replace
from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field, ValidationError, ValidationInfo, field_validator

from space.budget import parse_budget, parse_bytes
from space.codings.cache_coding import CACHE_BITS
from space.codings.coding_table import CODINGS, all_bits
from space.codings.masks import PATTERNS
from space.digest import digest
from space.errors import SpecError
from space.level import Level, parse_level
from space.menu import PLAIN, Menu, kinds, parts_of_kind
from space.results.recovery_names import AUTO, RECOVERY_NAMES
from space.targets.target_table import TARGETS

Experts = Literal["tied", "apart"]
SamplerName = Literal["front", "nsga2", "tpe", "random"]
DENSE_BITS = 16
_SPLIT_SIZES = ("num_samples", "num_search_samples", "num_held_out_samples")
_OPTIONS = {
    "group_sizes": "group_size",
    "sparsities": "sparsity",
    "ranks": "rank",
    "kinds": "kind",
    "pins": "pin",
    "plans": "plan",
    "num_samples": "num_sequences",
}
"""field -> the command line's name of it, where that is another"""


class JobSpec(BaseModel):
    """A request: which model, which budget, which menu, how much work. Frozen; its digest names it."""

    model_config = ConfigDict(frozen=True, extra="forbid", use_attribute_docstrings=True)

    model: str
    """A local folder or `org/name`."""
    revision: str | None = None
    """A commit, tag or branch on the hub; None is the default branch or a local folder as it is."""
    budget: str
    """As written: `4GiB`, `60%`, `3.25bpw`."""
    context: int = Field(0, ge=0)
    """Tokens of key/value cache inside the budget; 0 counts weights only."""
    batch: int = Field(1, ge=1)
    """Sequences of key/value cache inside the budget."""
    calibration: str | None = None
    """A text or JSONL file or a dataset name; None samples text from the model itself."""
    judge: str | None = None
    """A JSONL file of your own questions that every judged point is asked: prompts with answers, or with choices."""
    target: str = "packed"
    """The container that the result is for."""
    gpu_generation: str | None = None
    """Hardware that the result is for, where the target's runtime has not all kernels on all: such as `hopper`."""
    experts: Experts = "tied"
    """Whether all experts of a block share a level per projection, or each has its own."""
    bits: tuple[int, ...] = Menu().bits
    """Bit-widths of the menu, 2-8; 16 keeps a module dense."""
    group_sizes: tuple[int | None, ...] = Menu().group_sizes
    """Columns per scale; None, or "channel", is one scale per output channel."""
    sparsities: tuple[float | str, ...] = Menu().sparsities
    """Shares of zeros, or names of patterns that have their own, such as `2:4`."""
    ranks: tuple[int, ...] = Menu().ranks
    """Ranks of the low-rank correction."""
    kinds: tuple[str, ...] = Menu().kinds
    """Codings, rotations and rounded inputs of the menu; as they are by default: what is usual for the target."""
    cache_bits: tuple[int, ...] = Menu().cache_bits
    """Bits of keys and values in the cache, each layer its own; 16 is the type of the runtime."""
    pins: tuple[tuple[str, str], ...] = ()
    """(regular expression, level text) pairs."""
    plans: tuple[tuple[str, tuple[tuple[str, str], ...]], ...] = ()
    """(name, (module, level text) pairs) of plans to compare with; as JSON, name -> module -> level."""
    sampler: SamplerName = "front"
    """Who proposes plans."""
    max_trials: int | None = Field(None, ge=1)
    """Most trials to measure, uniform plans and sensitivity probes included; None is what the model needs."""
    max_minutes: float | None = Field(None, gt=0)
    """Stop proposing after this time, counted anew whenever a controller begins: resumed, or taken over."""
    refine: bool = False
    """Search on even where earlier jobs know enough to answer."""
    recover: str | None = None
    """A recovery of the recommended point after the search, or `auto`: the cheapest that helps, and the next."""
    workers: int = Field(2, ge=1)
    """Ray workers; the front does not depend on it."""
    worker_memory: str | None = None
    """Private memory that each worker may take, such as `8GiB`; None is a share of what the machine has."""
    seed: int = Field(0, ge=0, lt=2**63)
    """Seed of everything random."""
    sequence_length: int = Field(256, ge=8)
    """Tokens per sequence."""
    num_samples: int = Field(128, ge=1)
    """Sequences of calibration text."""
    num_search_samples: int = Field(32, ge=2)
    """Sequences a trial is measured on."""
    num_held_out_samples: int = Field(64, ge=2)
    """Sequences the front is measured on, never seen by the search."""

    @field_validator("group_sizes", mode="before")
    @classmethod
    def _channel_is_a_group(cls, value: Any) -> Any:
        """Read what the command line says and TOML must, which has no null."""
        return [None if one == "channel" else one for one in value] if isinstance(value, list | tuple) else value

    @field_validator("plans", mode="before")
    @classmethod
    def _plans_are_pairs(cls, value: Any) -> Any:
        """Read the plans of JSON: objects by name."""
        named = value.items() if isinstance(value, dict) else value
        return tuple((name, tuple(one.items()) if isinstance(one, dict) else one) for name, one in named)

    @field_validator("budget")
    @classmethod
    def _budget_is_readable(cls, value: str) -> str:
        parse_budget(value)
        return value

    @field_validator("worker_memory")
    @classmethod
    def _memory_is_readable(cls, value: str | None) -> str | None:
        if value is not None:
            parse_bytes(value)
        return value

    @field_validator("cache_bits")
    @classmethod
    def _cache_bits_are_known(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        if wrong := [bits for bits in value if bits not in (*CACHE_BITS, DENSE_BITS)]:
            told = ", ".join(map(str, CACHE_BITS))
            raise ValueError(f"{wrong} cannot be searched; use {told}, and {DENSE_BITS} for the runtime's own type")
        return tuple(sorted(set(value), reverse=True))

    @field_validator("bits", "group_sizes", "sparsities", "ranks", "kinds", "cache_bits")
    @classmethod
    def _axis_is_not_empty(cls, value: tuple[Any, ...]) -> tuple[Any, ...]:
        if not value:
            raise ValueError("needs at least one value")
        return value

    @field_validator("bits")
    @classmethod
    def _bits_are_storable(cls, value: tuple[int, ...]) -> tuple[int, ...]:
        wrong = [bits for bits in value if bits not in (*all_bits(), DENSE_BITS)]
        if wrong or set(value) == {DENSE_BITS}:
            least, most = all_bits()[0], all_bits()[-1]
            raise ValueError(
                f"{wrong or value} cannot be searched; use {least} to {most}, and 16 beside them to keep modules dense"
            )
        return value

    @field_validator("target", "kinds", "sparsities", "recover")
    @classmethod
    def _names_are_known(cls, value: Any, info: ValidationInfo) -> Any:
        if value is None:
            return None
        tables = {"target": tuple(TARGETS), "kinds": tuple(kinds()), "sparsities": tuple(PATTERNS)}
        tables["recover"] = (AUTO, *RECOVERY_NAMES)
        known = tables[str(info.field_name)]
        names = [value] if isinstance(value, str) else [name for name in value if isinstance(name, str)]
        if wrong := [name for name in names if name not in known]:
            raise ValueError(f"{', '.join(wrong)} is not known; there are {', '.join(known)}")
        return value

    @property
    def menu(self) -> Menu:
        """Return the values of each axis that levels of the target can have; the plain one where they can have none."""
        return Menu(
            self.bits,
            self.group_sizes,
            tuple(v for v in self.sparsities if self._is_held("sparsities", v)) or PLAIN.sparsities,
            tuple(v for v in self.ranks if self._is_held("ranks", v)) or PLAIN.ranks,
            self._kinds(),
            self.cache_bits,
            self._has_kernel,
        )

    def _kinds(self) -> tuple[str, ...]:
        """Return the kinds that files can hold: the target's own where none were named, and what a preset adds."""
        held, own = tuple(v for v in self.kinds if self._is_held("kinds", v)), TARGETS[self.target].kinds
        usual = Menu().kinds
        if set(usual) <= set(self.kinds):
            return tuple(dict.fromkeys((*own, *(v for v in held if v not in usual))))
        return held or own

    def _has_kernel(self, level: Level) -> bool:
        return self.gpu_generation is None or TARGETS[self.target].generations[self.gpu_generation](level)

    def _is_held(self, axis: str, value: Any) -> bool:
        bits = CODINGS[parts_of_kind(value)[0]].bits if axis == "kinds" else PLAIN.bits
        axes: dict[str, Any] = {axis: (value,), "bits": bits}
        levels = replace(PLAIN, **axes).levels()
        return all(TARGETS[self.target].why_not(level) is None for level in levels)

    @property
    def parsed_pins(self) -> tuple[tuple[str, Level], ...]:
        """Return the pins with their levels read."""
        return tuple((pattern, parse_level(text)) for pattern, text in self.pins)

    @property
    def parsed_plans(self) -> tuple[tuple[str, dict[str, Level]], ...]:
        """Return the plans to compare with, their levels read."""
        return tuple((name, {module: parse_level(text) for module, text in plan}) for name, plan in self.plans)

    @property
    def digest(self) -> str:
        """Return the sha256 of the request."""
        return digest(self.model_dump(mode="json"))


def sequences_of(num_sequences: int) -> dict[str, int]:
    """Return how many sequences each split has beside so many of calibration text: the default's shares of them."""
    defaults = {name: JobSpec.model_fields[name].default for name in _SPLIT_SIZES}
    others = {name: max(2, num_sequences * size // defaults["num_samples"]) for name, size in defaults.items()}
    return {**others, "num_samples": num_sequences}


def option_of(field: str) -> str:
    """Return the command line's name of a field.

    >>> option_of("group_sizes"), option_of("seed")
    ('--group-size', '--seed')
    """
    return f"--{_OPTIONS.get(field, field).replace('_', '-')}"


def make_spec(**values: Any) -> JobSpec:
    """Return a checked request.

    Raises:
        SpecError: a value is not allowed; the message names the command line's option.
        BudgetError: the budget cannot be read.

    """
    return spec_of(values)


def spec_of(values: Mapping[str, Any], called: Callable[[str], str] = option_of) -> JobSpec:
    """Return a checked request of the fields in `values`; `called` says what messages call a field. As `make_spec`."""
    parse_budget(str(values.get("budget", "")))
    try:
        spec = JobSpec(**values)
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        reason = first["msg"].removeprefix("Value error, ")
        raise SpecError(f"{called(str(first['loc'][0]))} {_as_typed(first['input'])}: {reason}.") from error
    _check_generation(spec, called)
    levels = spec.menu.levels()  # refuses impossible combinations now, not in a worker
    if all(level.is_dense for level in levels):
        if any(not level.is_dense for level in replace(spec.menu, has_kernel=lambda _: True).levels()):
            asked = f"{called('kinds')} {_as_typed(spec.kinds)} at {called('bits')} {_as_typed(spec.bits)}"
            told = f"{spec.target} has no kernel for {asked} on {spec.gpu_generation}"
            raise SpecError(f"{told}; name others, or leave {called('gpu_generation')} out.")
        told = f"{called('bits')} {_as_typed(spec.bits)}: {_as_typed(spec.kinds)} has none of these bit-widths"
        raise SpecError(f"{told}; name others, or another {called('kinds')}.")
    pinned = [level for _, level in spec.parsed_pins]
    given = [level for _, plan in spec.parsed_plans for level in plan.values()]  # both read every level now
    if lacking := [level for level in (*pinned, *given) if not (level.is_dense or spec.menu.has_kernel(level))]:
        raise SpecError(
            f"{lacking[0]}: {spec.target} has no kernel for it on {spec.gpu_generation}; name another level."
        )
    return spec


def _check_generation(spec: JobSpec, called: Callable[[str], str]) -> None:
    """Refuse hardware that a target does not know. Raises SpecError."""
    known = TARGETS[spec.target].generations
    if spec.gpu_generation is None or spec.gpu_generation in known:
        return
    told = f"{called('gpu_generation')} {spec.gpu_generation}"
    if known:
        raise SpecError(f"{told}: not known to --target {spec.target}; there are {', '.join(known)}.")
    able = " or ".join(name for name, target in TARGETS.items() if target.generations)
    raise SpecError(
        f"{told}: what --target {spec.target} holds runs on all hardware; leave it out, or use --target {able}."
    )


def _as_typed(value: Any) -> str:
    return ",".join(map(str, value)) if isinstance(value, tuple | list) else str(value)
