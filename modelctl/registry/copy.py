"""Copy an artifact from one store to another: blobs, then config, then manifest; the tag is the caller's, last.

What the destination has is skipped after a HEAD; what another repository of the same registry has is mounted.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import closing
from dataclasses import dataclass, field

from modelctl.core.chunks import feed
from modelctl.core.disk import FileBlob
from modelctl.core.errors import failing
from modelctl.core.protocols import Blob, Fetcher, Store
from modelctl.core.types import Descriptor, Digest
from modelctl.registry.hashed import Hashed
from modelctl.registry.remote import RemoteStore
from modelctl.registry.shared import SharedBlob
from modelctl.registry.upload import RemoteUpload


@dataclass
class Copied:
    """What became of the blobs of a copy, by digest; `sizes` are the bytes that each upload to a registry took."""

    sent: list[Digest] = field(default_factory=list)
    skipped: list[Digest] = field(default_factory=list)
    mounted: list[Digest] = field(default_factory=list)
    sizes: list[int] = field(default_factory=list)


def copy_blob(
    source: Store,
    descriptor: Descriptor,
    destination: Store,
    copied: Copied,
    advance: Callable[[int], None],
    *,
    fetcher: Fetcher | None = None,
    name: str = "",
) -> None:
    """Bring one blob to the destination, unless it has it.

    Args:
        source: Where the blob is.
        descriptor: Of the blob.
        destination: Where it is to be.
        copied: Takes note of what was done.
        advance: Called with each piece that is there [bytes]; may raise to stop.
        fetcher: Reads the blob in place of `source`.
        name: Of an upload of the same bytes that may have been begun; see `Store.upload`. Empty for the digest.

    Raises:
        ModelctlError: Of whatever kind; its text says on which side.
    """
    with failing("destination"):
        if destination.has(descriptor):
            copied.skipped.append(descriptor.digest)
        elif _mounted(source, descriptor, destination):
            copied.mounted.append(descriptor.digest)
        else:
            send_blob(fetcher or source, descriptor, destination, copied, advance, name=name)
            copied.sent.append(descriptor.digest)
            return
    advance(descriptor.size)


def _mounted(source: Store, descriptor: Descriptor, destination: Store) -> bool:
    if not isinstance(source, RemoteStore) or not isinstance(destination, RemoteStore):
        return False
    same = source.transport.registry == destination.transport.registry
    return same and destination.mount(descriptor, source.name)


def send_blob(
    source: Fetcher,
    descriptor: Descriptor,
    destination: Store,
    copied: Copied,
    advance: Callable[[int], None],
    *,
    name: str = "",
) -> None:
    """Send one blob, whatever the destination has under its digest; see `copy_blob`."""
    with failing("source"):
        blob = source.open(descriptor)
    read = Hashed(blob, descriptor, source)
    with closing(blob), destination.upload(read, name or descriptor.digest) as upload:
        if isinstance(upload, RemoteUpload):
            try:
                _fill(upload, blob, read, advance)
                upload.finish(descriptor.digest, lambda: read.check(advance))
            finally:
                copied.sizes.append(upload.sent)
            return
        feed(read, 0, blob.size, [upload.write], advance)
        read.check(advance)
        upload.commit(descriptor.digest)


def _fill(upload: RemoteUpload, blob: Blob, read: Blob, advance: Callable[[int], None]) -> None:
    """Send what the registry lacks of a blob, in the way that costs least."""
    start = upload.begin()
    advance(start)
    if isinstance(blob, FileBlob):
        upload.send_file(blob, advance)
    elif isinstance(blob, SharedBlob):
        for piece in blob.pieces(start):
            upload.write(piece)
            advance(len(piece))
    else:
        feed(read, 0, blob.size, [upload.write], advance, start=start)
