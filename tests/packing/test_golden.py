"""The bytes of the format. A change here is a change of the format: every digest in the world would be another."""

from pathlib import Path

import pytest

from tests.fakes.memory import MemoryStore
from tests.packing.artifacts import manifest_of, packed

GOLDEN = Path(__file__).parents[1] / "golden"

LAYOUTS = ["image", "modelpack", "raw", "kserve"]


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_manifest_is_that_of_the_first_release(layout: str) -> None:
    store = MemoryStore()
    root = packed(store, layout=layout)
    assert store.blobs[root.digest] == (GOLDEN / layout / "manifest.json").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_config_is_that_of_the_first_release(layout: str) -> None:
    store = MemoryStore()
    manifest = manifest_of(store, packed(store, layout=layout))
    assert store.blobs[manifest["config"]["digest"]] == (GOLDEN / layout / "config.json").read_bytes()


@pytest.mark.parametrize("layout", LAYOUTS)
def test_the_table_is_that_of_the_first_release(layout: str) -> None:
    store = MemoryStore()
    manifest = manifest_of(store, packed(store, layout=layout))
    assert store.blobs[manifest["layers"][-1]["digest"]] == (GOLDEN / layout / "table.tar").read_bytes()
