"""A blob is compared with its digest on its way, or afterwards where it was not read in order."""

from __future__ import annotations

import pytest

from modelctl.core.errors import DigestMismatch
from modelctl.core.protocols import BytesBlob
from modelctl.core.types import Descriptor, Digest, digest_of
from modelctl.registry.hashed import Hashed
from tests.models import noise

DATA = noise(3_000_000, "hashed")
RIGHT, WRONG = digest_of(DATA), digest_of(b"other")


def hashed(digest: Digest = RIGHT, data: bytes = DATA) -> Hashed:
    return Hashed(BytesBlob(data), Descriptor(media_type="", digest=digest, size=len(data)), "a test")


def read(blob: Hashed, start: int, end: int) -> bytes:
    buffer = bytearray(end - start)
    blob.read_into(start, memoryview(buffer))
    return bytes(buffer)


def test_what_has_its_digest_is_given_out() -> None:
    blob = hashed()

    assert read(blob, 0, 1_000_000) + read(blob, 1_000_000, len(DATA)) == DATA


def test_the_end_of_what_has_not_is_refused() -> None:
    blob = hashed(WRONG)
    read(blob, 0, 1_000_000)
    read(blob, 500_000, 700_000)

    with pytest.raises(DigestMismatch, match=f"source: blob {WRONG} in a test\n.*its 3000000 bytes hash to {RIGHT}"):
        read(blob, 1_000_000, len(DATA))


def test_what_was_not_read_from_its_beginning_is_read_again_to_be_checked() -> None:
    blob, moved = hashed(WRONG), list[int]()
    read(blob, 1_000_000, len(DATA))

    with pytest.raises(DigestMismatch, match="source: blob"):
        blob.check(moved.append)
    assert set(moved) == {0}


def test_what_was_hashed_is_not_read_again() -> None:
    blob, moved = hashed(), list[int]()
    read(blob, 0, len(DATA))
    blob.check(moved.append)

    assert moved == []


def test_a_blob_without_bytes_is_checked_too() -> None:
    with pytest.raises(DigestMismatch):
        hashed(WRONG, b"").check(lambda _: None)
