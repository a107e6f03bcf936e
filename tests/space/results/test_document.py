"""The document that users read: JSON there and back."""

import json
from dataclasses import replace

from hypothesis import given
from hypothesis import strategies as st

from space.measurement import Measurement
from space.results.document import FrontDocument
from tests.storage.sample_job import sample_job
from tests.storage.values import measurements

SAMPLE = sample_job().document


def test_json_round_trip() -> None:
    """Nothing is lost, tuples come back as tuples."""
    assert FrontDocument.from_json(json.loads(json.dumps(SAMPLE.to_json()))) == SAMPLE


def test_keys_are_the_contract() -> None:
    """Scripts read these keys."""
    document = SAMPLE.to_json()
    assert list(document) == [
        *("job", "state", "model", "target", "budget_bytes", "seed", "dense", "uniform", "front", "hypervolume"),
        *("reference_point", "cost", "measured_on", "marginal_price", "advice"),
        *("metric", "given", "experts", "schema_version"),
    ]
    assert document["schema_version"] == 2
    assert list(document["front"][0]) == [
        *("point", "trial", "size_bytes", "bits_per_weight", "kl_divergence", "kl_divergence_ci95", "perplexity"),
        *("recommended", "versus_next", "versus_uniform", "recovered", "own"),
    ]
    assert list(document["front"][0]["versus_next"]) == ["other", "ratio", "difference_ci95", "measurable"]
    assert list(document["marginal_price"]) == ["step_bytes", "kl_divergence_drop"]


def test_documents_of_version_1_are_read() -> None:
    """Databases hold them: what they did not know is None, and they are written as this version."""
    old = SAMPLE.to_json()
    del old["marginal_price"]
    old["schema_version"] = 1
    for point in old["front"]:
        del point["versus_next"], point["versus_uniform"]
    found = FrontDocument.from_json(json.loads(json.dumps(old)))
    front = tuple(replace(p, versus_next=None, versus_uniform=None) for p in SAMPLE.front)
    assert found == replace(SAMPLE, front=front, marginal_price=None)
    assert found.to_json()["schema_version"] == 2


def test_recommended_point() -> None:
    """The marked one, or none."""
    assert SAMPLE.recommended is not None
    assert SAMPLE.recommended.recommended
    assert replace(SAMPLE, front=()).recommended is None


@given(measurements)
def test_measurement_round_trip(measurement: Measurement) -> None:
    """A measurement is read back from its JSON."""
    assert Measurement.from_json(json.loads(json.dumps(measurement.to_json()))) == measurement


@given(st.lists(st.floats(0, 10), min_size=1, max_size=8))
def test_measurement_of_sequences(kl: list[float]) -> None:
    """Means over sequences; a loss beyond floats is held at their edge."""
    found = Measurement.of_sequences(kl, [1e6] * len(kl), 31, 64.0, 0.5)
    assert found.kl_divergence == sum(kl) / len(kl)
    assert found.num_tokens == 31 * len(kl)
    assert found.perplexity < float("inf")
