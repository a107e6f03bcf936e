"""Requests as files: what is written is read back as the same request, what makes no sense is refused."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from space.errors import SpecError
from space.requests.job_document import read_document, to_toml
from space.requests.presets import PRESETS, resolved
from space.spec import JobSpec, make_spec, spec_of
from space.targets.target_table import TARGETS

# half characters aside, which no file holds
TEXTS = st.text(st.characters(exclude_categories=["Cs"]), min_size=1, max_size=20)


def some_of(*values: Any) -> Any:
    return st.lists(st.sampled_from(values), min_size=1, unique=True).map(tuple)


SPECS = st.fixed_dictionaries(
    {"model": TEXTS.filter(lambda text: "@" not in text), "budget": st.sampled_from(["4GiB", " 60 % ", "3.25bpw"])},
    optional={
        "revision": st.none() | TEXTS,
        "calibration": st.none() | TEXTS,
        "context": st.integers(0, 10**9),
        "target": st.sampled_from(list(TARGETS)),
        "bits": some_of(2, 3, 4, 16).filter(lambda bits: bits != (16,)),
        "group_sizes": some_of(32, 64, None),
        "sparsities": some_of(0.0, 0.5, 0.3333, "2:4"),
        "ranks": some_of(0, 8),
        "kinds": some_of("integer", "rotated", "trellis", "rotated-trellis", "exl3"),
        "pins": st.lists(st.tuples(TEXTS, st.just("b4-g64"))).map(tuple),
        "max_trials": st.none() | st.integers(1, 10**6),
        "max_minutes": st.none() | st.floats(min_value=0, exclude_min=True, allow_infinity=False),
        "refine": st.booleans(),
        "worker_memory": st.none() | st.just("8GiB"),
        "seed": st.integers(0, 2**63 - 1),
    },
)


@given(SPECS)
def test_what_is_written_is_read_back(values: dict[str, Any]) -> None:
    """The same request with the same digest, from TOML and from JSON."""
    spec = make_spec(**values)
    texts = {"a.toml": to_toml(spec), "a.json": json.dumps(spec.model_dump(mode="json"))}
    for name, text in texts.items():
        again = spec_of(read_document(text.encode().decode(), name))
        assert (again, again.digest) == (spec, spec.digest)


@given(SPECS, st.sampled_from(list(PRESETS)))
def test_what_is_given_is_stronger_than_a_preset(values: dict[str, Any], preset: str) -> None:
    """What is not given is as the preset says, and what it leaves open is as by default."""
    spec = resolved(values, preset)
    wanted = {**JobSpec.model_construct(**values).model_dump(), **PRESETS[preset].values, **values}
    assert spec.model_dump() == make_spec(**wanted).model_dump()
    assert spec_of(read_document(to_toml(spec), "a.toml")).digest == spec.digest


def test_the_balanced_preset_is_the_default() -> None:
    """What nobody asked for is what everybody had before."""
    request = {"model": "m", "budget": "60%"}
    assert resolved(request, "balanced") == resolved(request) == make_spec(**request)


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ('kind = ["exl3"]', "job.toml: 'kind' is no key of a job; write `kinds`."),
        ("num-sequences = 3", "write `num_samples`, `num_search_samples` and `num_held_out_samples`"),
        ("modle = 1", "write `model`"),
        ("zzz = 1", "take it out; there are preset, model, "),
        ("seed = 1\nseed = 2", "is no TOML that can be read (Cannot overwrite a value"),
        ("seed = 2020-01-01", "2020-01-01 is a date or a time"),
        ("a" + ".a" * 2000 + " = 1", "more than 1,000 dots"),
        ("seed = " + "[" * 5000, "nested too deeply"),
        ('model = "org/name@main"\nrevision = "v1"', "keep one of both"),
    ],
)
def test_what_makes_no_sense_is_refused(text: str, told: str) -> None:
    """With the file, the key and what to do."""
    with pytest.raises(SpecError) as caught:
        read_document(text, "job.toml")
    assert str(caught.value).startswith("job.toml")
    assert told in str(caught.value)


def test_json_is_held_to_the_same() -> None:
    """One key twice, and a list of requests."""
    with pytest.raises(SpecError, match=r"a\.json is no JSON that can be read \(it holds 'seed' twice\)"):
        read_document('{"seed": 1, "seed": 2}', "a.json")
    with pytest.raises(SpecError, match=r"a\.json: it is no object of keys"):
        read_document("[]", "a.json")
