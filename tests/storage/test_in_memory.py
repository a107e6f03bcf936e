"""The store in memory keeps the contract."""

import pytest

from storage.in_memory import MemoryStore
from storage.open_store import open_store
from storage.store import Store
from tests.storage.store_contract import StoreContract


class TestMemoryStore(StoreContract):
    """`memory:`."""

    @pytest.fixture
    def store(self) -> Store:
        """Give an empty store."""
        return MemoryStore()


def test_url_opens_a_new_store_each_time() -> None:
    """Two stores in memory share nothing."""
    first, second = open_store("memory:"), open_store("memory:")
    assert isinstance(first, MemoryStore)
    assert first is not second
