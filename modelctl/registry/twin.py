"""Write a blob beside one that the store has and that is probably the same: nothing is written while they agree.

So packing an unchanged model again reads and compares, and needs no space. Where the two part, what was equal is
copied from the store's blob and the upload goes on from there; a blob that rotted is written again that way.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, closing, contextmanager

from modelctl.core.chunks import BUFFER
from modelctl.core.protocols import Blob, Store, Upload
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest


@contextmanager
def upload_beside(store: Store, blob: Blob, name: str, twin: Descriptor | None) -> Iterator[Upload]:
    """Start to write `blob`, probably `twin`; None, or one that the store has not, is no help and no harm."""
    with ExitStack() as stack:
        if twin and store.has(twin):
            present = stack.enter_context(closing(store.open(twin)))
            yield TwinUpload(present, twin.digest, lambda: stack.enter_context(store.upload(blob, name)))
        else:
            yield stack.enter_context(store.upload(blob, name))


class TwinUpload:
    """An `Upload` that becomes a real one at the first byte in which it differs from `twin`."""

    saved: Sequence[Checkpoint] = ()

    def __init__(self, twin: Blob, digest: Digest, start: Callable[[], Upload]) -> None:
        self._twin, self._digest, self._start = twin, digest, start
        self._upload: Upload | None = None
        self._same = 0

    def write(self, data: Bytes) -> None:
        if self._upload is None and self._agrees(data):
            self._same += len(data)
        else:
            self._real().write(data)

    def save(self, _checkpoint: Checkpoint) -> None:
        """Nothing is kept: a twin is beside."""

    def commit(self, digest: Digest) -> bool:
        if self._upload is None and self._same == self._twin.size and digest == self._digest:
            return False
        return self._real().commit(digest)

    def _agrees(self, data: Bytes) -> bool:
        if self._same + len(data) > self._twin.size:
            return False
        present = bytearray(len(data))
        self._twin.read_into(self._same, memoryview(present))
        return present == data

    def _real(self) -> Upload:
        """Return the upload, started with what was the same so far."""
        if self._upload is None:
            self._upload = self._start()
            for offset in range(0, self._same, BUFFER):
                data = bytearray(min(BUFFER, self._same - offset))
                self._twin.read_into(offset, memoryview(data))
                self._upload.write(data)
        return self._upload


class PresentUpload:
    """An `Upload` of a blob that the store has: what is written is only hashed, by whoever writes it."""

    saved: Sequence[Checkpoint] = ()

    def write(self, data: Bytes) -> None:
        """It is there."""

    def save(self, _checkpoint: Checkpoint) -> None:
        """Nothing is kept."""

    def commit(self, _digest: Digest) -> bool:
        return False
