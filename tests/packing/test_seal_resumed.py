"""Sealing that another process had begun: from every checkpoint the layer comes out as if it had not been killed."""

from __future__ import annotations

import pytest

from modelctl.core.chunks import CHUNK
from modelctl.core.types import Checkpoint, Entry
from modelctl.packing.plan import PlannedLayer
from modelctl.packing.seal import SealedLayer, seal
from tests.fakes.memory import MemorySource, MemoryStore, MemoryUpload
from tests.models import noise

FILES = {
    "a.safetensors": noise(1000, "a") * (2 * CHUNK // 1000 + 7),
    "b.safetensors": b"",
    "c.safetensors": noise(5000, "c"),
    "d.safetensors": noise(1000, "d") * (CHUNK // 1000 + 3),
}
PLAN = PlannedLayer(
    "weight", "tar", "", tuple(Entry(path=path, size=len(data), version="1") for path, data in FILES.items())
)


def begun() -> tuple[SealedLayer, list[Checkpoint], bytes]:
    """Seal without a stop; return the layer, its checkpoints and its bytes."""
    store = MemoryStore()
    with store.upload() as upload:
        layer = seal(PLAN, MemorySource(FILES), upload, {}, lambda size: None)
        return layer, upload.checkpoints, store.blobs[layer.digest]


WHOLE, CHECKPOINTS, BYTES = begun()


def resumed(count: int) -> tuple[SealedLayer, bytes, MemorySource]:
    """Seal from checkpoint number `count` on; return the layer, what was written, and the source that was read."""
    store, source = MemoryStore(), MemorySource(FILES)
    upload = MemoryUpload(store)
    upload.saved = CHECKPOINTS[:count]
    layer = seal(PLAN, source, upload, {}, lambda size: None)
    return layer, store.blobs[layer.digest], source


def test_there_is_a_checkpoint_at_the_end_of_each_chunk_and_of_each_file_that_has_bytes() -> None:
    assert [(checkpoint.file, checkpoint.end) for checkpoint in CHECKPOINTS] == [
        (0, CHUNK),
        (0, 2 * CHUNK),
        (0, len(FILES["a.safetensors"])),
        (2, 5000),
        (3, CHUNK),
        (3, len(FILES["d.safetensors"])),
    ]


@pytest.mark.parametrize("count", range(len(CHECKPOINTS) + 1))
def test_the_digest_and_the_rows_are_the_same(count: int) -> None:
    layer, _, _ = resumed(count)
    assert (layer.digest, layer.rows) == (WHOLE.digest, WHOLE.rows)


@pytest.mark.parametrize("count", range(1, len(CHECKPOINTS) + 1))
def test_only_what_lies_behind_the_last_checkpoint_is_written(count: int) -> None:
    _, written, _ = resumed(count)
    assert written == BYTES[CHECKPOINTS[count - 1].position :]


@pytest.mark.parametrize("missing", range(len(CHECKPOINTS) - 1))
def test_where_a_checkpoint_is_missing_all_is_hashed_anew_and_nothing_sent_again(missing: int) -> None:
    store = MemoryStore()
    upload = MemoryUpload(store)
    upload.saved = CHECKPOINTS[:missing] + CHECKPOINTS[missing + 1 : -1]
    last = upload.saved[-1].position if upload.saved else 0
    layer = seal(PLAN, MemorySource(FILES), upload, {}, lambda size: None)

    assert (layer.digest, layer.rows) == (WHOLE.digest, WHOLE.rows)
    assert store.blobs[layer.digest] == BYTES[last:]
    assert [checkpoint.position > last for checkpoint in upload.checkpoints] == [True] * len(upload.checkpoints)
