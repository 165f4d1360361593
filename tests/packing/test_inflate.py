import gzip
import zlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.core.errors import DigestMismatch, Invalid
from modelctl.packing.inflate import InflatedBlob
from tests.fakes.memory import MemoryBlob
from tests.models import noise

DATA = noise(3_000_000, "inflate")
PACKED = gzip.compress(DATA, 1, mtime=0)
MEMBERS = b"".join(gzip.compress(DATA[at : at + 700_000], 1, mtime=0) for at in range(0, len(DATA), 700_000))


def inflated(packed: bytes, size: int = len(DATA)) -> InflatedBlob:
    return InflatedBlob(MemoryBlob(packed), size, "layer sha256:ab")


def read(blob: InflatedBlob, offset: int, size: int) -> bytes:
    buffer = bytearray(size)
    blob.read_into(offset, memoryview(buffer))
    return bytes(buffer)


@pytest.mark.parametrize("packed", [PACKED, MEMBERS], ids=["one member", "many members"])
def test_reading_forward_gives_the_bytes(packed: bytes) -> None:
    blob = inflated(packed)
    assert b"".join(read(blob, at, 500_000) for at in range(0, len(DATA), 500_000)) == DATA


@pytest.mark.parametrize("packed", [PACKED, MEMBERS], ids=["one member", "many members"])
def test_reading_back_gives_the_bytes(packed: bytes) -> None:
    blob = inflated(packed)
    parts = [read(blob, at, 500_000) for at in range(2_500_000, -1, -500_000)]
    assert b"".join(reversed(parts)) == DATA


@given(ranges=st.lists(st.tuples(st.integers(0, 900), st.integers(0, 100)), max_size=8))
def test_any_range_gives_its_bytes(ranges: list[tuple[int, int]]) -> None:
    blob = inflated(gzip.compress(DATA[:1000], mtime=0), 1000)
    assert [read(blob, offset, size) for offset, size in ranges] == [
        DATA[offset : offset + size] for offset, size in ranges
    ]


@pytest.mark.parametrize("cut", [0, 5, 1000, len(PACKED) // 2, len(PACKED) - 8, len(PACKED) - 1])
def test_a_truncated_blob_is_refused(cut: int) -> None:
    with pytest.raises(DigestMismatch, match="decompresses to less than the 3000000 bytes"):
        read(inflated(PACKED[:cut]), 0, len(DATA))


def test_a_blob_of_fewer_bytes_is_refused() -> None:
    with pytest.raises(DigestMismatch, match="less than the 3000001 bytes"):
        read(inflated(PACKED, len(DATA) + 1), 0, len(DATA) + 1)


def test_a_blob_of_more_bytes_is_refused_at_its_end() -> None:
    with pytest.raises(DigestMismatch, match="more than the 2999999 bytes"):
        read(inflated(PACKED, len(DATA) - 1), 0, len(DATA) - 1)


def test_another_member_behind_the_end_is_refused() -> None:
    with pytest.raises(DigestMismatch, match="more than the 3000000 bytes"):
        read(inflated(PACKED + gzip.compress(b"evil")), 2_999_990, 10)


@pytest.mark.parametrize(
    "packed",
    [
        b"not gzip at all",
        DATA,
        PACKED[:1000] + b"!!!!!!!!" + PACKED[1008:],
        PACKED[:-8] + bytes(8),
        PACKED + b"garbage",
        zlib.compress(DATA[:100]),
        b"\x1f\x8b\x07" + bytes(20),
    ],
    ids=["text", "noise", "damaged", "wrong trailer", "garbage behind", "zlib", "unknown method"],
)
def test_what_is_not_gzip_is_refused(packed: bytes) -> None:
    with pytest.raises(Invalid, match="layer sha256:ab"):
        read(inflated(packed), 0, len(DATA))
