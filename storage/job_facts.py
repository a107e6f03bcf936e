"""What a job's run found out and later verbs need: values with names, kept as a JSON object of the same names."""

from collections.abc import Callable, Mapping
from dataclasses import asdict, dataclass, fields, replace
from typing import Any

from space.inventory import Inventory
from space.results.expert_tokens import ExpertTokens


@dataclass(frozen=True, slots=True)
class KeptText:
    """Where a job's tokens are.

    Attributes:
        path: the file.
        note: one sentence that says where they come from.
        digests: of what the levels were calibrated on, what the search measured on and what judged it.

    """

    path: str
    note: str
    digests: tuple[str, str, str]

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object."""
        return {**asdict(self), "digests": list(self.digests)}


@dataclass(frozen=True, slots=True)
class KeptLosses:
    """The additive model that a search ended with: module -> text of a level -> predicted loss."""

    losses: Mapping[str, Mapping[str, float]]


@dataclass(frozen=True, slots=True)
class Deaths:
    """Controllers that ended one after another at the same step.

    Attributes:
        step: the phase, how many trials were finished, and how many were judged.
        token: of the claim after the last death.
        count: how many in a row.

    """

    step: tuple[str, int, int]
    token: int
    count: int


@dataclass(frozen=True, slots=True)
class JobFacts:
    """What a run keeps beside its trials; None is what it has not found out, or what an older tightfit did not keep.

    Attributes:
        model_digest: content of the searched checkpoint.
        inventory: its modules.
        cache_folder: where levels, text and answers of the model are, as a whole path.
        device: what the job computes on, from its begin to its end.
        nodes: node of a cluster -> where it keeps levels.
        tokens: the text.
        dense_perplexity: of the dense model on the held-out text.
        experts: how many tokens of calibration text its experts saw.
        methods: the versions of what measures and builds.
        budget_bytes: what the budget is.
        smallest_bytes: the smallest plan of the space, key/value cache included.
        warm: whether it began with what earlier jobs know.
        expected_trials: how many trials its minutes were taken to allow.
        spent: name -> token-forwards that are no trial's.
        judged: trial number (as text) -> token-forwards that were spent on it on held-out text.
        lost_on_held_out: trial number (as text) -> number of the trial that it lost to.
        own_answers: what was asked and of which plan -> a digit for each of the user's own questions
            (`space.results.own_score.marks_of`).
        model: what the search learnt about each module.
        advice: what would make the front better.
        wall_seconds: what the job's runs took until its front was last recorded.
        deaths: of its controllers.
        mlflow_page: where MLflow shows it, behind the server's address.

    """

    model_digest: str | None = None
    inventory: Inventory | None = None
    cache_folder: str | None = None
    device: str | None = None
    nodes: Mapping[str, str] | None = None
    tokens: KeptText | None = None
    dense_perplexity: float | None = None
    experts: ExpertTokens | None = None
    methods: str | None = None
    budget_bytes: int | None = None
    smallest_bytes: int | None = None
    warm: bool | None = None
    expected_trials: int | None = None
    spent: Mapping[str, float] | None = None
    judged: Mapping[str, float] | None = None
    lost_on_held_out: Mapping[str, int] | None = None
    own_answers: Mapping[str, str] | None = None
    model: KeptLosses | None = None
    advice: str | None = None
    wall_seconds: float | None = None
    deaths: Deaths | None = None
    mlflow_page: str | None = None

    def merged(self, new: "JobFacts") -> "JobFacts":
        """Return these facts with those that are given in others in their place."""
        given = {field.name: getattr(new, field.name) for field in fields(new)}
        return replace(self, **{name: value for name, value in given.items() if value is not None})

    def to_json(self) -> dict[str, Any]:
        """Return the JSON object of those that are known."""
        given = {field.name: getattr(self, field.name) for field in fields(self)}
        return {name: _plain(value) for name, value in given.items() if value is not None}

    @staticmethod
    def from_json(value: Mapping[str, Any]) -> "JobFacts":
        """Read the JSON object; names that only another tightfit knows are passed over.

        Raises:
            ValueError: one of them is not what it is taken for; says which.

        """
        from space.parsing.checked import check_kind

        known = {field.name: field.type for field in fields(JobFacts)}
        for name in known.keys() & value.keys():
            try:
                check_kind(known[name], value[name])
            except ValueError as error:
                raise ValueError(f"{name}: {error}") from error
        return JobFacts(**{name: _value(name, found) for name, found in value.items() if name in known})


def _plain(value: Any) -> Any:
    if isinstance(value, Inventory | KeptText | ExpertTokens):
        return value.to_json()
    if isinstance(value, KeptLosses):
        return {"losses": {name: dict(losses) for name, losses in value.losses.items()}}
    if isinstance(value, Deaths):
        return {**asdict(value), "step": list(value.step)}
    return dict(value) if isinstance(value, Mapping) else value


def _value(name: str, found: Any) -> Any:
    if found is None or name not in _READERS:
        return found
    return _READERS[name](found)


_READERS: dict[str, Callable[[Any], Any]] = {
    "inventory": Inventory.from_json,
    "tokens": lambda value: KeptText(**{**value, "digests": tuple(value["digests"])}),
    "experts": lambda value: ExpertTokens(**value),
    "model": lambda value: KeptLosses(value["losses"]),
    "deaths": lambda value: Deaths(**{**value, "step": tuple(value["step"])}),
}
