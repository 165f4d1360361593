"""Blobs, sources and stores of bytes in memory: small, and working."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field

from modelctl.core.errors import ChecksumMismatch, DigestMismatch, NotFound
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest, Entry, Origin, digest_of


@dataclass
class MemoryBlob:
    """`data` as a blob. `reads` are the ranges that were asked for, (offset, size) each."""

    data: bytes
    reads: list[tuple[int, int]] = field(default_factory=list)

    @property
    def size(self) -> int:
        return len(self.data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self.reads.append((offset, len(buffer)))
        if offset + len(buffer) > len(self.data):
            raise ChecksumMismatch("memory", why=f"{len(self.data)} bytes")
        buffer[:] = self.data[offset : offset + len(buffer)]

    def close(self) -> None:
        """Nothing is open."""


@dataclass
class MemorySource:
    """`files` as a source, {path: content}. `changed` are paths whose version is another by the end of a read."""

    files: dict[str, bytes]
    changed: frozenset[str] = frozenset()
    origin: Origin = field(default_factory=lambda: Origin(url="memory:"))

    def list(self, wanted: Callable[[str], bool] = lambda path: True) -> Iterable[Entry]:
        return [Entry(path=path, size=len(data)) for path, data in sorted(self.files.items()) if wanted(path)]

    def open(self, entry: Entry) -> MemoryBlob:
        return MemoryBlob(self.files[entry.path])

    def check(self, entry: Entry) -> Entry:
        if entry.path in self.changed:
            raise ChecksumMismatch(f"{entry.path} changed while it was read")
        return entry


@dataclass
class MemoryStore:
    """Blobs by digest. `opened` are the digests that were read."""

    blobs: dict[Digest, bytes] = field(default_factory=dict)
    opened: list[Digest] = field(default_factory=list)

    def put(self, data: bytes, media_type: str, annotations: dict[str, str] | None = None) -> Descriptor:
        digest = digest_of(data)
        self.blobs[digest] = data
        return Descriptor(media_type=media_type, digest=digest, size=len(data), annotations=annotations or {})

    def open(self, descriptor: Descriptor) -> MemoryBlob:
        self.opened.append(descriptor.digest)
        data = self.blobs.get(descriptor.digest)
        if data is None:
            raise NotFound(f"blob {descriptor.digest}")
        if len(data) != descriptor.size:
            raise DigestMismatch(f"blob {descriptor.digest}", why=f"{len(data)} bytes, not {descriptor.size}")
        return MemoryBlob(data)

    @contextmanager
    def upload(self) -> Iterator[MemoryUpload]:
        yield MemoryUpload(self)


class MemoryUpload:
    def __init__(self, store: MemoryStore) -> None:
        self._store = store
        self._data = bytearray()
        self.saved: Sequence[Checkpoint] = ()
        self.checkpoints: list[Checkpoint] = []

    def save(self, checkpoint: Checkpoint) -> None:
        self.checkpoints.append(checkpoint)

    def write(self, data: Bytes) -> None:
        self._data += data

    def commit(self, digest: Digest) -> bool:
        new = digest not in self._store.blobs
        self._store.blobs[digest] = bytes(self._data)
        return new
