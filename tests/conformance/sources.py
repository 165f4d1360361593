"""What every `Source` must do. It is tested by a subclass with a fixture `source`, a model whose files are `FILES`."""

from __future__ import annotations

import hashlib
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest
from fastcrc import crc64

from modelctl.core.errors import ModelctlError
from modelctl.core.protocols import Source
from modelctl.core.types import Entry
from tests.models import noise, shard

FILES = {
    "README.md": b"# A model\n",
    "a b+c&d=%41#?.txt": b"a name that URLs take for something else",
    "config.json": b"{}",
    "empty.txt": b"",
    "model.safetensors": shard({"weights": noise(300_000, "weights")}),
    "sub/tokenizer.json": noise(20_000, "tokenizer"),
    "sub/\u540d\u524d.txt": "a name outside ASCII: \u540d\u524d".encode(),
}
WEIGHTS = FILES["model.safetensors"]


def everything(path: str) -> bool:
    return True


def entry_of(source: Source, path: str) -> Entry:
    (entry,) = source.list(lambda found: found == path)
    return entry


def read(source: Source, entry: Entry) -> bytes:
    data = bytearray(entry.size)
    with closing(source.open(entry)) as blob:
        blob.read_into(0, memoryview(data))
    return bytes(data)


class SourceConformance:
    def test_every_file_is_listed_with_its_size(self, source: Source) -> None:
        listed = {entry.path: entry.size for entry in source.list(everything)}
        assert listed == {path: len(data) for path, data in FILES.items()}

    def test_only_wanted_files_are_listed(self, source: Source) -> None:
        assert [entry.path for entry in source.list(lambda path: path.endswith(".json"))] == [
            "config.json",
            "sub/tokenizer.json",
        ]

    def test_two_listings_of_one_state_are_equal(self, source: Source) -> None:
        assert list(source.list(everything)) == list(source.list(everything))

    def test_each_file_has_a_version(self, source: Source) -> None:
        assert all(entry.version for entry in source.list(everything))

    def test_the_origin_names_the_source(self, source: Source) -> None:
        list(source.list(everything))
        assert "://" in source.origin.url

    @pytest.mark.parametrize("path", FILES)
    def test_a_file_has_the_bytes_that_were_put_there(self, source: Source, path: str) -> None:
        assert read(source, entry_of(source, path)) == FILES[path]

    @pytest.mark.parametrize(
        ("field", "computed"),
        [
            ("crc64", crc64.xz),
            ("sha256", lambda data: hashlib.sha256(data).hexdigest()),
            ("git_sha1", lambda data: hashlib.sha1(b"blob %d\0" % len(data) + data).hexdigest()),
        ],
    )
    def test_what_the_source_states_of_a_file_is_right(
        self, source: Source, field: str, computed: Callable[[bytes], object]
    ) -> None:
        stated = {entry.path: getattr(source.check(entry), field) for entry in source.list(everything)}
        right = {path: computed(data) for path, data in FILES.items()}
        assert {path: value or right[path] for path, value in stated.items()} == right

    def test_a_range_read_fills_exactly_the_buffer(self, source: Source) -> None:
        buffer = bytearray(b"-" * 30)
        with closing(source.open(entry_of(source, "model.safetensors"))) as blob:
            blob.read_into(123_456, memoryview(buffer)[10:20])
        assert bytes(buffer) == b"-" * 10 + WEIGHTS[123_456:123_466] + b"-" * 10

    def test_reading_nothing_is_no_trouble(self, source: Source) -> None:
        with closing(source.open(entry_of(source, "model.safetensors"))) as blob:
            blob.read_into(len(WEIGHTS), memoryview(bytearray()))

    def test_one_blob_serves_many_threads(self, source: Source) -> None:
        data = bytearray(len(WEIGHTS))
        with closing(source.open(entry_of(source, "model.safetensors"))) as blob, ThreadPoolExecutor(8) as threads:
            view = memoryview(data)
            places = range(0, len(data), 10_000)
            list(threads.map(lambda at: blob.read_into(at, view[at : at + 10_000]), places))
        assert data == WEIGHTS

    def test_a_read_beyond_the_end_is_refused(self, source: Source) -> None:
        with closing(source.open(entry_of(source, "model.safetensors"))) as blob, pytest.raises(ModelctlError):
            blob.read_into(len(WEIGHTS) - 5, memoryview(bytearray(10)))

    def test_a_file_that_did_not_change_checks(self, source: Source) -> None:
        entry = entry_of(source, "config.json")
        read(source, entry)
        assert source.check(entry).version == entry.version
