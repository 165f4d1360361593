"""A small model, a place for a store, and a store that holds the model as `v1`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.models import write_model
from tests.stores import pack_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def packed(model: Path, store: Path) -> Path:
    """The store, with the model in it."""
    pack_model(model, store)
    return store


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "target"
