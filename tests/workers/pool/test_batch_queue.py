"""A worker goes on with its own lane, and helps others when that is empty."""

from workers.pool.batch_queue import WaitingBatches


def test_own_lane_first_then_the_oldest() -> None:
    """Batches of a lane come in their order to its worker; one without work takes what waits longest."""
    waiting: WaitingBatches[str] = WaitingBatches()
    for lane, batch in enumerate(("a", "b")):
        waiting.put(lane, f"{batch}1")
        waiting.put(lane, f"{batch}2")
    assert [waiting.take(1) for _ in range(4)] == ["b1", "b2", "a1", "a2"]
    assert len(waiting) == 0


def test_what_comes_back_goes_first() -> None:
    """A dead worker's batch is the next one of its lane, and the next one for who has no lane of its own."""
    waiting: WaitingBatches[str] = WaitingBatches()
    waiting.put(0, "later")
    waiting.put(1, "other")
    waiting.put_first(1, "again")
    assert waiting.take(1) == "again"
    waiting.put_first(0, "again")
    assert waiting.take(7) == "again"
