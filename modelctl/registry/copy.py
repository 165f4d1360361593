"""Copy an artifact from one store to another: blobs, then config, then manifest; the tag is the caller's, last.

What the destination has is skipped after a HEAD; what another repository of the same registry has is mounted.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator
from contextlib import closing, contextmanager
from dataclasses import dataclass, field

from modelctl.core.checksum import feed
from modelctl.core.disk import FileBlob
from modelctl.core.errors import DigestMismatch, ModelctlError
from modelctl.core.protocols import Store
from modelctl.core.types import Descriptor, Digest
from modelctl.registry.remote import RemoteStore
from modelctl.registry.upload import RemoteUpload


@dataclass
class Copied:
    """What became of the blobs of a copy, by digest."""

    sent: list[Digest] = field(default_factory=list)
    skipped: list[Digest] = field(default_factory=list)
    mounted: list[Digest] = field(default_factory=list)


def copy_blob(
    source: Store, descriptor: Descriptor, destination: Store, copied: Copied, advance: Callable[[int], None]
) -> None:
    """Bring one blob to the destination, unless it has it.

    Raises:
        ModelctlError: Of whatever kind; its text says on which side.
    """
    with failing("destination"):
        if destination.has(descriptor):
            copied.skipped.append(descriptor.digest)
        elif _mounted(source, descriptor, destination):
            copied.mounted.append(descriptor.digest)
        else:
            _send(source, descriptor, destination, advance)
            copied.sent.append(descriptor.digest)
            return
    advance(descriptor.size)


def _mounted(source: Store, descriptor: Descriptor, destination: Store) -> bool:
    if not isinstance(source, RemoteStore) or not isinstance(destination, RemoteStore):
        return False
    same = source.transport.registry == destination.transport.registry
    return same and destination.mount(descriptor, source.name)


def _send(source: Store, descriptor: Descriptor, destination: Store, advance: Callable[[int], None]) -> None:
    with failing("source"):
        blob = source.open(descriptor)
    with closing(blob), destination.upload(blob, descriptor.digest) as upload:
        if isinstance(upload, RemoteUpload):
            start = upload.begin()
            advance(start)
            if not (isinstance(blob, FileBlob) and upload.send_file(blob, advance)):
                feed(blob, 0, blob.size, [upload.write], advance, start=start)
        else:
            sha = hashlib.sha256()
            feed(blob, 0, blob.size, [sha.update, upload.write], advance)
            if f"sha256:{sha.hexdigest()}" != descriptor.digest:
                raise DigestMismatch(f"blob {descriptor.digest}", why=f"its bytes hash to sha256:{sha.hexdigest()}")
        upload.commit(descriptor.digest)


@contextmanager
def failing(side: str) -> Iterator[None]:
    """Say of an error on which side of a copy it happened, unless it says so already."""
    try:
        yield
    except ModelctlError as error:
        if not error.what.startswith(("source: ", "destination: ")):
            error.what = f"{side}: {error.what}"
        raise
