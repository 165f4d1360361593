from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from modelctl.packing.layout import load_layout
from modelctl.packing.plan import PlannedLayer, plan_layers
from modelctl.packing.planned import PlannedBlob
from modelctl.packing.seal import seal
from tests.fakes.memory import MemorySource, MemoryStore
from tests.models import noise

FILES = {"a.json": b"{}", "b.json": b"", "c/d.json": noise(9000, "d"), "模型.json": noise(511, "m")}


def plan_of(layout: str) -> PlannedLayer:
    return plan_layers(list(MemorySource(FILES).list()), load_layout(layout))[0]


def written(plan: PlannedLayer) -> bytes:
    store = MemoryStore()
    with store.upload() as upload:
        layer = seal(plan, MemorySource(FILES), upload, {}, lambda size: None)
    return store.blobs[layer.digest]


TAR = written(plan_of("image"))


@given(start=st.integers(0, len(TAR)), end=st.integers(0, len(TAR)))
def test_any_range_is_what_sealing_writes_there(start: int, end: int) -> None:
    first, last = sorted((start, end))
    buffer = bytearray(last - first)
    PlannedBlob(plan_of("image"), MemorySource(FILES)).read_into(first, memoryview(buffer))
    assert bytes(buffer) == TAR[first:last]


def test_a_raw_layer_is_the_file() -> None:
    plan = plan_of("raw")
    buffer = bytearray(plan.size)
    PlannedBlob(plan, MemorySource(FILES)).read_into(0, memoryview(buffer))
    assert bytes(buffer) == FILES[plan.entries[0].path]


def test_the_size_is_known_before_anything_is_read() -> None:
    assert PlannedBlob(plan_of("image"), MemorySource(FILES)).size == len(TAR)
