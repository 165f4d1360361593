import hashlib
import io
import tarfile
import zlib

import pytest
from blake3 import blake3

from modelctl.core.chunks import CHUNK
from modelctl.core.errors import ChecksumMismatch
from modelctl.core.types import Entry
from modelctl.packing.layout import load_layout
from modelctl.packing.plan import PlannedLayer, plan_layers
from modelctl.packing.seal import SealedLayer, seal
from tests.fakes.memory import MemorySource, MemoryStore
from tests.models import noise, shard

FILES = {"a.json": b"{}", "b.json": b"", "模型.json": noise(5000, "c")}
BIG = {"big.gguf": noise(1000, "big") * (CHUNK // 1000 + 10)}


def plan_of(files: dict[str, bytes], layout: str = "image") -> PlannedLayer:
    return plan_layers(list(MemorySource(files).list()), load_layout(layout))[0]


def sealed(
    store: MemoryStore, files: dict[str, bytes], layout: str = "image", stated: dict[str, int] | None = None
) -> SealedLayer:
    with store.upload() as upload:
        return seal(plan_of(files, layout), MemorySource(files), upload, stated or {}, lambda size: None)


def test_the_digest_is_that_of_what_was_written() -> None:
    store = MemoryStore()
    layer = sealed(store, FILES)
    assert layer.digest == f"sha256:{hashlib.sha256(store.blobs[layer.digest]).hexdigest()}"


def test_the_size_is_that_of_what_was_written() -> None:
    store = MemoryStore()
    layer = sealed(store, FILES)
    assert layer.size == len(store.blobs[layer.digest]) == layer.plan.size


def test_tarfile_finds_the_files_in_the_blob() -> None:
    store = MemoryStore()
    layer = sealed(store, FILES)
    with tarfile.open(fileobj=io.BytesIO(store.blobs[layer.digest]), mode="r:") as tar:
        assert {info.name: tar.extractfile(info).read() for info in tar} == FILES  # type: ignore[union-attr]


def test_the_rows_say_where_each_file_lies() -> None:
    store = MemoryStore()
    layer = sealed(store, FILES)
    blob = store.blobs[layer.digest]
    assert {row.path: blob[row.offset : row.offset + row.size] for row in layer.rows} == FILES


def test_the_rows_hold_each_files_crc32() -> None:
    layer = sealed(MemoryStore(), FILES)
    assert {row.path: row.crc32 for row in layer.rows} == {path: zlib.crc32(data) for path, data in FILES.items()}


def test_the_rows_hold_each_files_chunks() -> None:
    (row,) = sealed(MemoryStore(), BIG).rows
    data = BIG["big.gguf"]
    assert row.chunks == blake3(data[:CHUNK]).digest() + blake3(data[CHUNK:]).digest()


def test_a_raw_layer_is_named_by_the_files_sha256() -> None:
    layer = sealed(MemoryStore(), {"a.safetensors": shard({"a": b"a"})}, "raw")
    assert layer.digest == f"sha256:{hashlib.sha256(shard({'a': b'a'})).hexdigest()}"


def test_an_empty_raw_file_is_an_empty_layer() -> None:
    store = MemoryStore()
    assert store.blobs[sealed(store, {"empty.txt": b""}, "raw").digest] == b""


def test_a_layer_that_the_store_has_is_not_new() -> None:
    store = MemoryStore()
    assert [sealed(store, FILES).new, sealed(store, FILES).new] == [True, False]


def test_the_right_crc32_passes() -> None:
    sealed(MemoryStore(), FILES, stated={"a.json": zlib.crc32(b"{}")})


def test_a_wrong_crc32_is_refused_with_both_values() -> None:
    with pytest.raises(ChecksumMismatch) as refused:
        sealed(MemoryStore(), FILES, stated={"a.json": 1})
    assert (refused.value.what, refused.value.why) == (
        "a.json",
        f"its CRC-32 is {zlib.crc32(b'{}'):08x}; the list says 00000001",
    )


def test_a_wrong_crc32_leaves_nothing_in_the_store() -> None:
    store = MemoryStore()
    with pytest.raises(ChecksumMismatch):
        sealed(store, FILES, stated={"b.json": 1})
    assert store.blobs == {}


def test_a_file_that_changed_while_it_was_read_leaves_nothing_in_the_store() -> None:
    store = MemoryStore()
    source = MemorySource(FILES, changed=frozenset({"b.json"}))
    with store.upload() as upload, pytest.raises(ChecksumMismatch, match="changed while it was read"):
        seal(plan_of(FILES), source, upload, {}, lambda size: None)
    assert store.blobs == {}


def test_progress_counts_the_files_bytes() -> None:
    told: list[int] = []
    with MemoryStore().upload() as upload:
        seal(plan_of(BIG), MemorySource(BIG), upload, {}, told.append)
    assert sum(told) == len(BIG["big.gguf"])


def test_progress_may_stop_the_job() -> None:
    store = MemoryStore()
    with store.upload() as upload, pytest.raises(ZeroDivisionError):
        seal(plan_of(BIG), MemorySource(BIG), upload, {}, lambda size: size // 0)
    assert store.blobs == {}


def test_a_file_that_shrank_since_it_was_listed_is_refused() -> None:
    plan = PlannedLayer("config", "tar", "", (Entry(path="a.json", size=100),))
    with MemoryStore().upload() as upload, pytest.raises(ChecksumMismatch):
        seal(plan, MemorySource(FILES), upload, {}, lambda size: None)
