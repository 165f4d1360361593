"""Turn the files of a layer into its blob, reading each byte once.

From one read of 1 MiB at a time come the blob's sha256, the file's CRC-32 and CRC-64 and the blake3 of its chunks,
while the bytes go on to the store. So memory is one buffer a layer, whatever the size of the shard. At the end of each
chunk all that state is small enough to be saved: an upload that was killed is gone on with, and nothing hashed twice.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from itertools import islice

import msgspec

from modelctl.core.checksum import Crcs
from modelctl.core.chunks import CHUNK, ChunkHashes, feed
from modelctl.core.disk import FileBlob
from modelctl.core.errors import ChecksumMismatch
from modelctl.core.protocols import Blob, Source, Upload
from modelctl.core.readahead import PART, ReadAhead, ring
from modelctl.core.sha256 import Sha256
from modelctl.core.types import Bytes, Checkpoint, Digest, Entry, FileRow
from modelctl.packing.form import Piece, frame
from modelctl.packing.plan import PlannedLayer
from modelctl.packing.stated import StatedHash, check_sha256
from modelctl.packing.table import check_chunks


@dataclass(frozen=True)
class SealedLayer:
    """A layer whose bytes are known: its plan, digest, size [bytes] and the table's rows of its files, in order.

    `new` says that the store had not had it; `entries` are the plan's, with all that their source states of them.
    """

    plan: PlannedLayer
    digest: Digest
    size: int
    rows: tuple[FileRow, ...]
    new: bool
    entries: tuple[Entry, ...]


def seal(
    plan: PlannedLayer,
    source: Source,
    upload: Upload,
    stated: Mapping[str, int],
    advance: Callable[[int], None],
    *,
    memory: int = PART,
    count: Callable[[int], None] = lambda _size: None,
) -> SealedLayer:
    """Read the layer's files once, write its blob to `upload` and commit it.

    Args:
        plan: The layer's files and form.
        source: Each entry is opened, read and checked to be still the version that was listed.
        upload: Takes the blob in order, from its last checkpoint on; committed under the digest computed here.
        stated: CRC-32 by path, of those files of which somebody stated one; compared before the blob is committed.
        advance: Called with the number of a file's bytes just written; may raise to stop.
        memory: What may be read ahead of a file that is not on this machine [bytes].
        count: Called with what was read of a file [bytes].

    Raises:
        ChecksumMismatch: A file is not the version that was listed, or has not the checksum that its source, or
            somebody, stated. Nothing is committed.
        Invalid: A row does not have the hashes of all chunks. Nothing is committed.
    """
    sealing = _Sealing(plan, source, upload, advance, memory, count=count)
    rows, entries = [], []
    size = 0
    for number, piece in enumerate(frame(plan.form, plan.members)):
        sealing.write_head(piece)
        size = piece.offset
        if piece.member:
            row, entry = sealing.write_file(number, plan.entries[number], piece.offset)
            check_crc32(row.path, row.crc32, stated)
            check_chunks(row)
            rows.append(row)
            entries.append(entry)
    digest = sealing.sha256.digest()
    if plan.form == "raw":
        check_sha256(entries[0], digest)
    new = upload.commit(digest)
    rows = [msgspec.structs.replace(row, layer=digest) for row in rows]
    return SealedLayer(plan, digest, size, tuple(rows), new, tuple(entries))


class _Sealing:
    """A blob on its way: its hash so far, and where an earlier run had come to.

    Of an earlier run of which a checkpoint is missing nothing is believed: all is read, and what was sent not again.
    """

    def __init__(
        self,
        plan: PlannedLayer,
        source: Source,
        upload: Upload,
        advance: Callable[[int], None],
        memory: int,
        *,
        count: Callable[[int], None],
    ) -> None:
        self._form, self._source, self._upload, self._advance = plan.form, source, upload, advance
        self._memory, self._count = memory, count
        self._sent = upload.saved[-1].position if upload.saved else 0
        self._saved: Sequence[Checkpoint] = upload.saved if _is_whole(plan, upload.saved) else ()
        self._start = self._position = self._sent if self._saved else 0
        self.sha256 = Sha256(self._saved[-1].sha256 if self._saved else b"")

    def write_head(self, piece: Piece) -> None:
        if piece.offset > self._start or not self._saved:
            self.sha256.update(piece.head)
            self._write(piece.head)

    def write_file(self, number: int, entry: Entry, offset: int) -> tuple[FileRow, Entry]:
        """Write what is missing of a file; return its row, which does not know its layer yet, and what is stated."""
        done = [checkpoint for checkpoint in self._saved if checkpoint.file == number]
        start = done[-1].end if done else 0
        crcs = Crcs(done[-1].crc32, done[-1].crc64) if done else Crcs()
        chunks = ChunkHashes(b"".join(checkpoint.chunk for checkpoint in done))
        position = start

        def save(data: memoryview) -> None:
            nonlocal position
            position += len(data)
            self._count(len(data))
            if position % CHUNK == 0 or position == entry.size:
                chunks.end_chunk()
                self._save(
                    Checkpoint(
                        position=offset + position,
                        file=number,
                        end=position,
                        sha256=self.sha256.save(),
                        crc32=crcs.crc32,
                        crc64=crcs.crc64,
                        chunk=chunks.last,
                        content=content.save(),
                    )
                )

        self._advance(start)
        with closing(self._open(entry)) as blob:
            state = done[-1].content if done else b""
            content = StatedHash(entry, is_layer=self._form == "raw", blob=blob, start=start, state=state)
            # sha256 first: it is slow enough to hide that the piece comes from memory, a third of the time of the CRCs.
            updates = (self.sha256.update, crcs.update, chunks.update, *content.updates, self._write, save)
            feed(blob, 0, entry.size, updates, self._advance, start=start)
        entry = self._source.check(entry)
        content.check(entry, crcs)
        row = FileRow(
            path=entry.path,
            size=entry.size,
            layer=Digest(""),
            offset=offset,
            crc32=crcs.crc32,
            crc64=crcs.crc64,
            chunks=chunks.finish(),
        )
        return row, entry

    def _write(self, data: Bytes) -> None:
        """Pass on what the upload does not have."""
        has = max(0, self._sent - self._position)
        self._position += len(data)
        if has < len(data):
            self._upload.write(memoryview(data)[has:])

    def _save(self, checkpoint: Checkpoint) -> None:
        if checkpoint.position > self._sent:
            self._upload.save(checkpoint)

    def _open(self, entry: Entry) -> Blob:
        blob = self._source.open(entry)
        if isinstance(blob, FileBlob):
            return blob
        return ReadAhead(blob, *ring(self._memory), check=lambda: self._advance(0))


def _is_whole(plan: PlannedLayer, saved: Sequence[Checkpoint]) -> bool:
    """Say whether these are the first checkpoints of a layer, and none is missing."""
    places = [(one.file, one.end, one.position) for one in saved]
    return places == list(islice(_places(plan), len(places)))


def _places(plan: PlannedLayer) -> Iterator[tuple[int, int, int]]:
    for number, piece in enumerate(frame(plan.form, plan.members)):
        size = piece.member.size if piece.member else 0
        for end in [*range(CHUNK, size, CHUNK), *([size] if size else [])]:
            yield number, end, piece.offset + end


def check_crc32(path: str, crc32: int, stated: Mapping[str, int]) -> None:
    """Compare a file's CRC-32 with the one that a list states, if one does; `ChecksumMismatch`."""
    if stated.get(path, crc32) != crc32:
        raise ChecksumMismatch(
            path,
            why=f"its CRC-32 is {crc32:08x}; the list says {stated[path]:08x}",
            hint="fetch the file again, or write the list again with `modelctl crc32`",
        )
