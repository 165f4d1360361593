"""Files as an artifact's table states them, and folders that are filled with them."""

from __future__ import annotations

from pathlib import Path

from modelctl.core.chunks import CHUNK, ChunkHashes, pieces
from modelctl.core.types import Digest, FileRow
from modelctl.node.folder import UNFINISHED, open_folder
from tests.fakes.memory import MemoryBlob

DIGEST = Digest("sha256:" + "a" * 64)
"""The artifact that the folders are filled from."""

OTHER = Digest("sha256:" + "b" * 64)

LARGE = b"".join(bytes([number]) * CHUNK for number in (1, 2)) + b"\3" * 100_000
"""Two chunks and a part of a third."""


def row_of(path: str, data: bytes) -> FileRow:
    """Return the row of a file that is a layer of its own, as it is."""
    hashes = ChunkHashes()
    for offset, length in pieces(len(data)):
        hashes.update(memoryview(data)[offset : offset + length])
    return FileRow(path=path, size=len(data), layer=DIGEST, offset=0, crc32=0, crc64=0, chunks=hashes.finish())


def nothing(size: int) -> None:
    """Watch nothing."""


def fill(target: Path, files: dict[str, bytes], digest: Digest = DIGEST, *, overwrite: bool = False) -> None:
    """Restore `files`, {path: content}, as a pull does."""
    rows = {path: row_of(path, data) for path, data in files.items()}
    with open_folder(target, digest, overwrite=overwrite) as folder:
        done = [row.path for row in folder.present(rows) if folder.proved(row, nothing)]
        missing = [row for path, row in rows.items() if path not in done]
        folder.check_room(missing)
        for row in missing:
            folder.restore(row, MemoryBlob(files[row.path]), nothing)


def restore(target: Path, path: str, data: bytes, blob: MemoryBlob) -> None:
    """Restore one file of content `data`, by reading `blob`."""
    with open_folder(target, DIGEST, overwrite=False) as folder:
        folder.restore(row_of(path, data), blob, nothing)


def interrupted(target: Path, path: str, data: bytes, after: int) -> Path:
    """Begin to restore a file and stop when `after` bytes of it stand; return where they do."""

    def stop(size: int) -> None:
        nonlocal after
        after -= size
        if after <= 0:
            raise KeyboardInterrupt

    try:
        with open_folder(target, DIGEST, overwrite=False) as folder:
            folder.restore(row_of(path, data), MemoryBlob(data), stop)
    except KeyboardInterrupt:
        return part_of(target)
    raise AssertionError("it was not interrupted")


def part_of(target: Path) -> Path:
    """Return the one unfinished file."""
    (part,) = (path for path in (target / UNFINISHED).rglob("*") if path.is_file() and path.name != "lock")
    return part
