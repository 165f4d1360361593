"""A layer that was not written yet, as a blob: its bytes can be had from anywhere in it, out of its files."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing

from modelctl.core.protocols import Source
from modelctl.core.types import Entry
from modelctl.packing.form import frame
from modelctl.packing.plan import PlannedLayer


class PlannedBlob:
    """The bytes that sealing `plan` writes. Thread-safe when `source` is.

    For what has to be sent again: each read looks through the layer's files from the first. `count` is called with
    what was read of a file [bytes].
    """

    def __init__(self, plan: PlannedLayer, source: Source, count: Callable[[int], None] = lambda _size: None) -> None:
        self._plan, self._source, self._count = plan, source, count
        self.size = plan.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; `ChecksumMismatch` when a file is no longer the version that was listed."""
        end = offset + len(buffer)
        entries = iter(self._plan.entries)
        for piece in frame(self._plan.form, self._plan.members):
            start = piece.offset - len(piece.head)
            _copy(piece.head, start, offset, buffer)
            if piece.member:
                self._read_file(next(entries), piece.offset, offset, buffer)
            if piece.offset >= end:
                return

    def _read_file(self, entry: Entry, at: int, offset: int, buffer: memoryview) -> None:
        """Read into `buffer`, which begins at `offset`, what it shares with the file, which begins at `at`."""
        first, last = max(offset, at), min(offset + len(buffer), at + entry.size)
        if first < last:
            with closing(self._source.open(entry)) as blob:
                blob.read_into(first - at, buffer[first - offset : last - offset])
            self._count(last - first)

    def close(self) -> None:
        """Nothing is held between reads."""


def _copy(data: bytes, start: int, offset: int, buffer: memoryview) -> None:
    """Copy into `buffer`, which begins at `offset`, what it shares with `data`, which begins at `start`."""
    first, last = max(offset, start), min(offset + len(buffer), start + len(data))
    if first < last:
        buffer[first - offset : last - offset] = data[first - start : last - start]
