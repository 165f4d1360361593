"""What a source states of a file's content, against the bytes that were read."""

from __future__ import annotations

import hashlib
from collections.abc import Callable

from modelctl.core.checksum import Crcs
from modelctl.core.chunks import feed
from modelctl.core.errors import ChecksumMismatch
from modelctl.core.protocols import Blob
from modelctl.core.sha256 import Sha256
from modelctl.core.types import Bytes, Digest, Entry


class StatedHash:
    """The hash of a file that its source states: its sha256, else its git blob id; none costs nothing.

    Not thread-safe. Source of the id: git-hash-object(1), sha1 over "blob SIZE" and a NUL before the content.
    """

    def __init__(self, entry: Entry, *, is_layer: bool, blob: Blob, start: int, state: bytes) -> None:
        """Begin, or go on at `start` from a `state` that `save` returned.

        Args:
            entry: As it was listed.
            is_layer: The file is all of its layer, so its sha256 is the layer's, which is made anyway.
            blob: Its bytes: a git id cannot be saved, so those before `start` are read again.
            start: How many bytes were hashed before [bytes].
            state: Of the sha256 then.
        """
        self._sha256 = Sha256(state) if entry.sha256 and not is_layer else None
        self._sha1 = None
        if entry.git_sha1 and not entry.sha256:
            self._sha1 = hashlib.sha1(b"blob %d\0" % entry.size, usedforsecurity=False)
            feed(blob, 0, start, [self._sha1.update], lambda _size: None)

    @property
    def updates(self) -> list[Callable[[Bytes], object]]:
        """What takes the next bytes."""
        hashes = (self._sha256, self._sha1)
        return [one.update for one in hashes if one]

    def save(self) -> bytes:
        return self._sha256.save() if self._sha256 else b""

    def check(self, entry: Entry, crcs: Crcs) -> None:
        """Compare all that the source states, in `entry`, with what was read; `ChecksumMismatch`."""
        if entry.crc64 is not None and entry.crc64 != crcs.crc64:
            raise _mismatch(entry, "CRC-64", str(crcs.crc64), str(entry.crc64))
        if self._sha256:
            check_sha256(entry, self._sha256.digest())
        if self._sha1 and self._sha1.hexdigest() != entry.git_sha1:
            raise _mismatch(entry, "git blob id", self._sha1.hexdigest(), entry.git_sha1)


def check_sha256(entry: Entry, digest: Digest) -> None:
    """Compare the digest of a file's content with what its source states, if it does; `ChecksumMismatch`."""
    found = digest.removeprefix("sha256:")
    if entry.sha256 not in ("", found):
        raise _mismatch(entry, "sha256", found, entry.sha256)


def _mismatch(entry: Entry, what: str, found: str, stated: str) -> ChecksumMismatch:
    return ChecksumMismatch(
        entry.path,
        why=f"its {what} is {found}; the source states {stated}",
        hint="run the same command again; if it stays so, the source's copy is bad: upload it again",
    )
