"""Turn the files of a layer into its blob, reading each byte once.

From one read of 1 MiB at a time come the blob's sha256, the file's CRC-32 and CRC-64 and the blake3 of its chunks,
while the bytes go on to the store. So memory is one buffer a layer, whatever the size of the shard.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Mapping
from contextlib import closing
from dataclasses import dataclass

from modelctl.core.checksum import ChunkHashes, Crcs, feed
from modelctl.core.errors import ChecksumMismatch
from modelctl.core.protocols import Source, Upload
from modelctl.core.types import Digest, Entry, FileRow
from modelctl.packing.form import frame
from modelctl.packing.plan import PlannedLayer


@dataclass(frozen=True)
class SealedLayer:
    """A layer whose bytes are known: its plan, digest, size [bytes] and the table's rows of its files, in order.

    `new` says that the store had not had it.
    """

    plan: PlannedLayer
    digest: Digest
    size: int
    rows: tuple[FileRow, ...]
    new: bool


def seal(
    plan: PlannedLayer,
    source: Source,
    upload: Upload,
    stated: Mapping[str, int],
    advance: Callable[[int], None],
) -> SealedLayer:
    """Read the layer's files once, write its blob to `upload` and commit it.

    Args:
        plan: The layer's files and form.
        source: Each entry is opened, read and checked to be still the version that was listed.
        upload: Takes the blob in order; committed under the digest computed here.
        stated: CRC-32 by path, of those files of which somebody stated one; compared before the blob is committed.
        advance: Called with the number of a file's bytes just written; may raise to stop.

    Raises:
        ChecksumMismatch: A file is not the version that was listed, or not the one whose CRC-32 was stated. Nothing
            is committed.
    """
    sha = hashlib.sha256()
    files: list[tuple[Entry, int, Crcs, bytes]] = []
    entries = iter(plan.entries)
    size = 0
    for piece in frame(plan.form, plan.members):
        sha.update(piece.head)
        upload.write(piece.head)
        size = piece.offset
        if piece.member:
            entry = next(entries)
            crcs, chunks = Crcs(), ChunkHashes()
            with closing(source.open(entry)) as blob:
                updates = (crcs.update, chunks.update, sha.update, upload.write)
                feed(blob, 0, entry.size, updates, advance)
            source.check(entry)
            _check_crc32(entry.path, crcs.crc32, stated)
            files.append((entry, piece.offset, crcs, chunks.finish()))
    digest = Digest("sha256:" + sha.hexdigest())
    new = upload.commit(digest)
    rows = tuple(
        FileRow(
            path=entry.path,
            size=entry.size,
            layer=digest,
            offset=offset,
            crc32=crcs.crc32,
            crc64=crcs.crc64,
            chunks=hashes,
        )
        for entry, offset, crcs, hashes in files
    )
    return SealedLayer(plan, digest, size, rows, new)


def _check_crc32(path: str, crc32: int, stated: Mapping[str, int]) -> None:
    if stated.get(path, crc32) != crc32:
        raise ChecksumMismatch(
            path,
            why=f"its CRC-32 is {crc32:08x}; the list says {stated[path]:08x}",
            hint="fetch the file again, or write the list again with `modelctl crc32`",
        )
