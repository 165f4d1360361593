"""The verbs each room offers. Small on purpose: one method is one capability."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from contextlib import AbstractContextManager
from typing import Protocol, runtime_checkable

from modelctl.core.errors import DigestMismatch
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest, Entry, Origin


class Blob(Protocol):
    """Bytes that can be read anywhere, by many threads at once."""

    @property
    def size(self) -> int: ...

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer` with the bytes from `offset` on. Never short: it fills, or it raises."""

    def close(self) -> None: ...


@runtime_checkable
class Lender(Protocol):
    """A blob whose next bytes are in memory already."""

    def lend(self, offset: int, size: int) -> memoryview:
        """Return the `size` bytes from `offset` on, good until the blob is read again; for one reader, in order."""


class BytesBlob:
    """Bytes in memory as a `Blob`."""

    def __init__(self, data: bytes) -> None:
        self._data = data
        self.size = len(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; `DigestMismatch` when there are fewer bytes than that."""
        data = self._data[offset : offset + len(buffer)]
        if len(data) != len(buffer):
            raise DigestMismatch("a document", why=f"it has {self.size} bytes; {offset + len(buffer)} were expected")
        buffer[:] = data

    def close(self) -> None:
        """Nothing is held."""


class Source(Protocol):
    """Where a model's files come from."""

    @property
    def origin(self) -> Origin:
        """What is read; known once the files were listed."""

    def list(self, wanted: Callable[[str], bool]) -> Iterable[Entry]:
        """Return the files whose path is `wanted`; `Invalid` for what can't be read as a file, and is wanted."""

    def open(self, entry: Entry) -> Blob:
        """Open the version of the file that was listed; `ChecksumMismatch` when it is another by now."""

    def check(self, entry: Entry) -> Entry:
        """Return the entry with all that the source states of its content, which a listing may not have.

        Raises:
            ChecksumMismatch: The file is no longer the version that was listed.
        """


class Fetcher(Protocol):
    def open(self, descriptor: Descriptor) -> Blob:
        """Open a blob; `NotFound` when it is not there, `DigestMismatch` when its size is another."""


class Upload(Protocol):
    """One blob on its way into a store, written in order.

    `saved` are the checkpoints of an earlier upload of the same blob that was killed: what lies before the last one
    need not be written again.
    """

    saved: Sequence[Checkpoint]

    def save(self, checkpoint: Checkpoint) -> None:
        """Keep a checkpoint of what was written, where the store can go on with a killed upload."""

    def write(self, data: Bytes) -> None: ...

    def commit(self, digest: Digest) -> bool:
        """Make what was written durable under `digest`, which the caller computed from the same bytes.

        Returns:
            Whether the store had not had it.
        """


class Store(Fetcher, Protocol):
    """A place that keeps blobs by digest and tags by name."""

    def has(self, descriptor: Descriptor) -> bool: ...

    def upload(self, _blob: Blob, _name: str = "", /) -> AbstractContextManager[Upload]:
        """Start to write a blob, which is read again where the store loses what it was given.

        Uploads of one name, when it is not empty, are uploads of the same bytes: a killed one may be gone on with.
        """

    def put_manifest(self, manifest: Descriptor, raw: bytes) -> None:
        """Keep a manifest under its digest; one that names a subject is from then on among its referrers."""

    def referrers(self, subject: Digest, artifact_type: str = "") -> list[Descriptor]:
        """Return the manifests that name `subject`, by digest; of one `artifact_type` when it is given.

        Their descriptors say the artifact type, and the annotations of the manifest.
        """

    def resolve(self, name: str) -> Descriptor:
        """Return the manifest that a tag or digest names; `NotFound` when there is none."""

    def tags(self) -> Iterable[str]: ...

    def untag(self, name: str) -> list[str]:
        """Forget a tag, or a digest with all its tags; return the tags that are gone."""

    def tag(self, manifest: Descriptor, name: str) -> None:
        """Point `name` at a manifest that the store already has, atomically."""
