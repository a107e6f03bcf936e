"""The contract of a store: jobs listed in pages, and what people call them."""

from typing import Any

import pytest

from space.errors import NotFoundError
from storage.job_summary import Wanted
from storage.records import JobState
from storage.store import Store
from tests.storage.values import spec


class ListContract:
    """Pages of jobs by what is wanted of them; labels and notes."""

    def test_lists_come_in_pages(self, store: Store) -> None:
        """Newest first, of a user, of some states, of a part of a model's name as it is written."""
        for number in range(9):
            store.create_job(f"j{number}", spec(model=f"org/{'Big_100%' if number % 3 else 'small'}"), "ab"[number % 2])
        store.request_cancel("j4")
        rests = frozenset([JobState.CANCELLED])

        def page(after: str | None = None, limit: int = 100, **wanted: Any) -> tuple[str, int]:
            found, total = store.page_overviews(Wanted(**wanted), after, limit)
            assert all(job == store.overview(job.job_id) for job in found)
            return "".join(job.job_id[1:] for job in found), total

        assert page() == page(model="") == ("876543210", 9)
        assert page(limit=2) == ("87", 9)
        assert page("j7", 2) == ("65", 9)
        assert page("j0") == ("", 9)
        assert page(limit=0) == ("", 9)
        assert page(user="a") == ("86420", 5)
        assert page("j6", 1, user="a") == ("4", 5)
        assert page(states=rests) == ("4", 1)
        assert page(states=frozenset()) == page(user="c") == page(user="a", model="all", states=rests) == ("", 0)
        assert page(model="org/small") == page(model="all") == ("630", 3)
        assert page(model="big") == page(model="s%l") == page(model="_mall") == page(model="\0") == ("", 0)
        assert page(model="Big_100%", user="b") == ("751", 3)
        for after, user in (("j9", None), ("j4", "b")):
            with pytest.raises(NotFoundError, match="no such job is in this list"):
                page(after, user=user)

    @pytest.mark.usefixtures("job")
    def test_a_job_is_described(self, store: Store) -> None:
        """By a label and a note, which stay as the job goes on, and can be taken away."""
        store.describe_job("one", "for the phone", "the second try")
        store.update_job("one", phase="measuring")
        for job in (store.get_job("one"), store.glance("one")):
            assert (job.label, job.note) == ("for the phone", "the second try")
        for found in (store.overview("one"), *store.list_overviews()):
            assert (found.label, found.note) == ("for the phone", "the second try")
        store.describe_job("one", None, None)
        assert (store.get_job("one").label, store.get_job("one").note) == (None, None)
        with pytest.raises(NotFoundError):
            store.describe_job("none", None, None)

    def test_jobs_are_found_by_their_labels(self, store: Store) -> None:
        """By a part of it as it is written, of one user, page by page; who has none is found by no part."""
        labels = {"j0": "for the phone", "j1": "100% of it_all", "j2": "phone, älter", "j4": "", "j5": "the phone"}
        for number in range(6):
            store.create_job(f"j{number}", spec(), "ab"[number % 2])
        for job_id, label in labels.items():
            store.describe_job(job_id, label, "phone in the note")

        def page(after: str | None = None, limit: int = 100, **wanted: Any) -> tuple[str, int]:
            found, total = store.page_overviews(Wanted(**wanted), after, limit)
            assert all(Wanted(**wanted).has(job) for job in found)
            return "".join(job.job_id[1:] for job in found), total

        assert page(label="phone") == ("520", 3)
        assert page(label="phone", limit=2) == ("52", 3)
        assert page("j2", label="phone") == ("0", 3)
        assert page(label="phone", user="b") == ("5", 1)
        assert page(label="100% of it_") == ("1", 1)
        assert page(label="älter") == ("2", 1)
        assert page(label="Phone") == page(label="p%e") == page(label="the_phone") == ("", 0)
        assert page(label="\0") == page(label="note") == ("", 0)
        assert page(label="") == ("543210", 6)
        store.describe_job("j5", None, None)
        assert page(label="phone", states=frozenset([JobState.QUEUED])) == ("20", 2)
