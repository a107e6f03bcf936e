"""Plans: equal content has one digest."""

from hypothesis import given
from hypothesis import strategies as st

from space.level import DENSE, Level
from space.plan import Plan
from tests.space.values import levels

mappings = st.dictionaries(st.text(max_size=9), levels, max_size=6)


@given(mappings, st.randoms(use_true_random=False))
def test_digest_does_not_depend_on_order(mapping: dict[str, Level], random: object) -> None:
    """The same levels in any order are the same plan."""
    shuffled = list(mapping.items())
    random.shuffle(shuffled)  # type: ignore[attr-defined]
    assert Plan.of(dict(shuffled)).digest == Plan.of(mapping).digest


@given(mappings)
def test_json_round_trip(mapping: dict[str, Level]) -> None:
    """A plan is read back from its JSON, order included."""
    plan = Plan.of(mapping)
    assert Plan.from_json(plan.to_json()) == plan


def test_replace_changes_the_digest() -> None:
    """A changed level makes another plan; unknown names and the original are left alone."""
    plan = Plan.of({"a": Level(4, 64), "b": DENSE})
    changed = plan.replace({"b": Level(2, 64), "c": DENSE})
    assert changed.to_json() == {"a": "b4-g64", "b": "b2-g64"}
    assert plan["b"] == DENSE
    assert changed.digest != plan.digest


def test_digest_is_pinned() -> None:
    """Digests are keys in databases of users: they never change."""
    digest = Plan.of({"b": Level(4, 64, 0.5, rank=16), "a": DENSE}).digest
    assert digest == "93e1e8c3f0e954ce792248e2b631a2a335cc91c1ff2713a38761671e960b50ba"
