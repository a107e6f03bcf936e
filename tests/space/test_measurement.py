"""Measurements as records."""

import json

import numpy as np

from space.measurement import Measurement

MEASURED = Measurement.of_sequences([0.1, 0.3], [2.0, 2.2], 31, 64.0, 1.5)
SKETCHED = Measurement(0.2, 8.0, (0.1, 0.3), 62, 64.0, 1.5, np.ones(4, dtype=np.float16))


def test_sequences_are_averaged() -> None:
    """All are of one length."""
    assert MEASURED.kl_divergence == (0.1 + 0.3) / 2
    assert (MEASURED.num_tokens, MEASURED.token_forwards, MEASURED.seconds) == (62, 64.0, 1.5)
    assert MEASURED.free == Measurement(0.2, MEASURED.perplexity, (0.1, 0.3), 62, 0.0, 0.0)


def test_records_hold_no_sketch() -> None:
    """It is large and kept elsewhere: JSON has none, and what is read back is equal without it."""
    written = json.loads(json.dumps(SKETCHED.to_json()))
    assert "sketch" not in written
    read = Measurement.from_json(written)
    assert read == SKETCHED
    assert read.sketch is None
    assert SKETCHED.sketch is not None


def test_a_sketch_is_no_part_of_equality() -> None:
    """Nor of what is printed; what costs nothing again keeps it."""
    assert Measurement.from_json(SKETCHED.to_json()) == SKETCHED
    assert "sketch" not in repr(SKETCHED)
    assert SKETCHED.free.sketch is SKETCHED.sketch


def test_readers_of_older_records() -> None:
    """A record without the field is whole."""
    assert Measurement.from_json(MEASURED.to_json()) == MEASURED
