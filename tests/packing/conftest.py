import pytest

from modelctl.core.types import Descriptor
from tests.fakes.memory import MemoryStore
from tests.packing.artifacts import packed


@pytest.fixture
def store() -> MemoryStore:
    return MemoryStore()


@pytest.fixture
def root(store: MemoryStore) -> Descriptor:
    return packed(store)
