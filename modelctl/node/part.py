"""One file of a model being filled: proved where an earlier run was, and then chunk by chunk."""

from __future__ import annotations

import hashlib
import os
import threading
from collections.abc import Callable
from typing import Protocol

from modelctl.core.chunks import CHUNK, ChunkProver, buffer_for, pieces
from modelctl.core.disk import FileBlob, on_disk, write_at
from modelctl.core.errors import ChecksumMismatch
from modelctl.core.protocols import Blob
from modelctl.core.types import FileRow

SEGMENT = 128 * CHUNK
"""Bytes of a file that one thread fills; a larger file is filled by several."""

Segment = tuple[int, int]
"""First byte of a file's range, and the byte behind its last."""


class PartFolder(Protocol):
    """Where unfinished files are, and where they go."""

    def open_part(self, name: str) -> int: ...

    def put_in_place(self, part: str, fd: int, path: str) -> None: ...

    def place(self, path: str) -> str: ...


class Part:
    """One file being filled, by segments that several threads may take; the last one gives it its name."""

    def __init__(self, folder: PartFolder, row: FileRow, segment: int = SEGMENT) -> None:
        self._folder, self._row = folder, row
        self._name = part_name(row)
        self._left = set(segments(row.size, segment))
        self._fd = -1
        self._lock = threading.Lock()

    def fill(self, segment: Segment, blob: Blob, advance: Callable[[int], None]) -> None:
        """Fill a segment from the file's layer, going on where an earlier run stopped.

        Args:
            segment: One of `segments(row.size)`.
            blob: The layer's uncompressed bytes.
            advance: Told of each piece that is proved or written [bytes]; may raise to stop.

        Raises:
            ChecksumMismatch: A chunk is not what the table says. What was right before it is kept for the next run.
            Conflict: A link or a folder stands where the file must go.
        """
        start, end = segment
        with self._lock:
            self._fd = self._folder.open_part(self._name) if self._fd < 0 else self._fd
        name = self._folder.place(self._row.path)
        present = FileBlob(self._fd, min(os.fstat(self._fd).st_size, end), name)
        start = right_until(present, self._row, start, advance)
        prover = ChunkProver(self._row.size, self._row.chunks, start)
        buffer = buffer_for(self._row.size)
        for offset, length in pieces(end, start):
            data = buffer[:length]
            blob.read_into(self._row.offset + offset, data)
            write_at(self._fd, data, offset, name)
            if not prover.update(data):
                self._cut(prover.proved, end)
                raise _bad_chunk(self._row, prover.proved // CHUNK)
            advance(length)
        with self._lock:
            self._left.discard(segment)
            finished = not self._left
        if finished:
            with on_disk(name):
                os.ftruncate(self._fd, self._row.size)
            self._folder.put_in_place(self._name, self._fd, self._row.path)

    def _cut(self, proved: int, end: int) -> None:
        """Drop the wrong bytes behind `proved`, unless a later segment has begun: then the next run finds them."""
        with self._lock, on_disk(self._folder.place(self._row.path)):
            if os.fstat(self._fd).st_size <= end:
                os.ftruncate(self._fd, proved)

    def close(self) -> None:
        if self._fd >= 0:
            os.close(self._fd)
            self._fd = -1


def segments(size: int, length: int = SEGMENT) -> list[Segment]:
    """Cut a file of `size` bytes into ranges of whole chunks that may be filled side by side."""
    return [(start, min(start + length, size)) for start in range(0, size, length)] or [(0, 0)]


def _bad_chunk(row: FileRow, chunk: int) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{row.path}, chunk {chunk} (from byte {chunk * CHUNK})",
        why=f"layer {row.layer} holds other bytes there than the artifact's table states",
        hint="modelctl verify --depth full says which layers are bad; pack or copy the artifact again",
    )


def part_name(row: FileRow) -> str:
    return hashlib.sha256(row.path.encode()).hexdigest()


def right_until(blob: FileBlob, row: FileRow, start: int, advance: Callable[[int], None]) -> int:
    """Return up to which byte `blob` is proved from `start` on, the first byte of a chunk; `advance` is told of it."""
    prover = ChunkProver(row.size, row.chunks, start)
    buffer = buffer_for(blob.size - start)
    for offset, length in pieces(blob.size, start):
        blob.read_into(offset, buffer[:length])
        before = prover.proved
        if not prover.update(buffer[:length]):
            break
        advance(prover.proved - before)
    return prover.proved
