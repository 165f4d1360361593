"""A model's folder, filled file by file: each appears under its name when its bytes are proved, and not before.

Unfinished files stand in `.modelctl.unfinished/<manifest digest>/`. What a killed run left of them is proved again
chunk by chunk, so there is no journal that could say otherwise. Every path is walked by folder descriptors without
following links, so nothing outside the target is touched, whoever wrote into it.
"""

from __future__ import annotations

import errno
import fcntl
import hashlib
import os
import shutil
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager, suppress
from pathlib import Path

from modelctl.core.checksum import BUFFER, CHUNK, ChunkProver, pieces
from modelctl.core.disk import FileBlob, locked, on_disk, write_all
from modelctl.core.errors import ChecksumMismatch, Conflict, DiskProblem
from modelctl.core.protocols import Blob
from modelctl.core.types import Digest, FileRow

UNFINISHED = ".modelctl.unfinished"

_LOCK = "lock"
_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC


@contextmanager
def open_folder(path: str | os.PathLike[str], digest: Digest, *, overwrite: bool) -> Iterator[Folder]:
    """Make the folder if need be and hold it alone until the `with` ends.

    Args:
        path: The target.
        digest: The manifest's digest: which artifact the folder is filled from.
        overwrite: Whether files that are not this artifact's may be there already.

    Raises:
        Conflict: Another modelctl fills it, or it holds an unfinished pull of another artifact.
    """
    root = Path(path)
    with on_disk(str(root)):
        root.mkdir(parents=True, exist_ok=True)
        root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        with on_disk(str(root / UNFINISHED)):
            with suppress(FileExistsError):
                os.mkdir(UNFINISHED, dir_fd=root_fd)
            os.close(os.open(UNFINISHED, _FOLDER, dir_fd=root_fd))
        with locked(root / UNFINISHED / _LOCK, fcntl.LOCK_EX | fcntl.LOCK_NB, busy=str(root)):
            folder = Folder(root, root_fd, digest, overwrite=overwrite)
            try:
                folder.prepare()
                yield folder
            except BaseException:
                folder.tidy(finished=False)
                raise
            folder.tidy(finished=True)
    finally:
        os.close(root_fd)


class Folder:
    """A target held by this process; see `open_folder`. Thread-safe for different files."""

    def __init__(self, root: Path, root_fd: int, digest: Digest, *, overwrite: bool) -> None:
        self._root, self._root_fd, self._overwrite = root, root_fd, overwrite
        self._own = f"{UNFINISHED}/{digest.removeprefix('sha256:')}"

    def prepare(self) -> None:
        """Make the place for unfinished files; `Conflict` when it holds another artifact's."""
        with on_disk(str(self._root / UNFINISHED)):
            others = set(os.listdir(self._root / UNFINISHED)) - {_LOCK, Path(self._own).name}
            if others and not self._overwrite:
                raise Conflict(
                    f"{self._root} holds an unfinished pull of another artifact",
                    why=f"of sha256:{min(others)}",
                    hint="finish that one, name another folder, or go over it with --overwrite",
                )
            for other in others:
                shutil.rmtree(f"{UNFINISHED}/{other}", dir_fd=self._root_fd)
            with suppress(FileExistsError):
                os.mkdir(self._own, dir_fd=self._root_fd)

    def tidy(self, *, finished: bool) -> None:
        """Remove what `prepare` made, unless there are unfinished files for the next run to go on with."""
        parts = [item for _, _, files in os.walk(self._root / UNFINISHED) for item in files if item != _LOCK]
        if finished or not parts:
            with on_disk(str(self._root / UNFINISHED)):
                shutil.rmtree(UNFINISHED, dir_fd=self._root_fd)
                os.fsync(self._root_fd)

    def present(self, rows: Mapping[str, FileRow]) -> list[FileRow]:
        """Return the rows whose file stands in the folder with the right size; its bytes are still to be proved.

        Raises:
            Conflict: Without `overwrite`, the folder holds anything that is not a file of `rows`, of its size.
        """
        found: list[FileRow] = []
        strangers: list[str] = []
        with on_disk(str(self._root)):
            for path, status in self._files():
                row = rows.get(path)
                if row and stat.S_ISREG(status.st_mode) and status.st_size == row.size:
                    found.append(row)
                else:
                    strangers.append(path)
        if strangers and not self._overwrite:
            raise Conflict(
                f"{self._root} is not empty, and not an earlier pull of this artifact",
                why=f"{strangers[0]!r} is not of it, or has another size"
                + (f"; so are {len(strangers) - 1} more" if strangers[1:] else ""),
                hint="name an empty folder, or replace what is in the way with --overwrite",
            )
        return found

    def _files(self) -> Iterator[tuple[str, os.stat_result]]:
        """Yield everything that is not a folder, without following a link."""
        for base, folders, files, fd in os.fwalk(".", onerror=_raise, dir_fd=self._root_fd):
            prefix = "" if base == "." else base.removeprefix("./") + "/"
            if not prefix:
                folders[:] = [name for name in folders if name != UNFINISHED]
            for name in (*folders, *files):
                status = os.stat(name, dir_fd=fd, follow_symlinks=False)
                if not stat.S_ISDIR(status.st_mode):
                    yield prefix + name, status

    def proved(self, row: FileRow, advance: Callable[[int], None]) -> bool:
        """Say whether the file of `row` that is present has exactly the right bytes.

        Raises:
            Conflict: It has not, and `overwrite` is off; names the chunk.
        """
        with self._parent(row.path) as (fd, name), on_disk(str(self._root / row.path)):
            file = os.open(name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC, dir_fd=fd)
        blob = FileBlob(file, row.size, str(self._root / row.path))
        try:
            right = _right_prefix(blob, row, advance)
        finally:
            blob.close()
        if right < row.size and not self._overwrite:
            raise Conflict(
                f"{self._root / row.path} is not the artifact's",
                why=f"its chunk {right // CHUNK} (from byte {right}) has other bytes",
                hint="name an empty folder, or replace what is in the way with --overwrite",
            )
        return right == row.size

    def check_room(self, rows: list[FileRow]) -> None:
        """Refuse to start what cannot fit; `DiskProblem` with both figures [bytes]."""
        with on_disk(str(self._root)):
            free = os.fstatvfs(self._root_fd)
            kept = sum(
                min(os.stat(item.path, follow_symlinks=False).st_blocks * 512, item.stat().st_size)
                for item in os.scandir(self._root / self._own)
            )
        needed = sum(row.size for row in rows) - kept
        if needed > free.f_bavail * free.f_frsize:
            raise DiskProblem(
                str(self._root),
                why=f"{needed} bytes are needed and {free.f_bavail * free.f_frsize} are free",
                hint="free some space, or pull less with --include",
            )

    def restore(self, row: FileRow, blob: Blob, advance: Callable[[int], None]) -> None:
        """Fill the file of `row` from its layer and put it in its place, going on where an earlier run stopped.

        Args:
            row: Path, place in the layer and chunk hashes.
            blob: The layer's uncompressed bytes.
            advance: Told of each piece that is proved or written [bytes]; may raise to stop.

        Raises:
            ChecksumMismatch: A chunk is not what the table says. What was right before it is kept for the next run.
            Conflict: A link or a folder stands where the file must go.
        """
        part = f"{self._own}/{hashlib.sha256(row.path.encode()).hexdigest()}"
        with on_disk(str(self._root / part)):
            fd = os.open(part, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=self._root_fd)
        try:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
                raise Conflict(str(self._root / part), why="somebody else linked it", hint="remove it")
            self._fill(fd, row, blob, advance)
            with self._parent(row.path) as (parent, name), on_disk(str(self._root / row.path)):
                os.fsync(fd)
                os.rename(part, name, src_dir_fd=self._root_fd, dst_dir_fd=parent)
                os.fsync(parent)
        finally:
            os.close(fd)

    def _fill(self, fd: int, row: FileRow, blob: Blob, advance: Callable[[int], None]) -> None:
        name = str(self._root / row.path)
        size = min(os.fstat(fd).st_size, row.size)
        start = _right_prefix(FileBlob(fd, size, name), row, advance)
        with on_disk(name):
            os.ftruncate(fd, start)
            os.lseek(fd, start, os.SEEK_SET)
        prover = ChunkProver(row.size, row.chunks, start)
        buffer = memoryview(bytearray(min(BUFFER, row.size)))
        for offset, length in pieces(row.size, start):
            data = buffer[:length]
            blob.read_into(row.offset + offset, data)
            write_all(fd, data, name)
            if not prover.update(data):
                with on_disk(name):
                    os.ftruncate(fd, prover.proved)
                raise _bad_chunk(row, prover.proved // CHUNK)
            advance(length)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the folder that `path` goes into, making what is missing; yield its descriptor and the last name."""
        *folders, name = path.split("/")
        fd = os.dup(self._root_fd)
        try:
            for folder in folders:
                fd = self._descend(fd, folder, path)
            yield fd, name
        finally:
            os.close(fd)

    def _descend(self, fd: int, folder: str, path: str) -> int:
        with on_disk(str(self._root / path)):
            with suppress(FileExistsError):
                os.mkdir(folder, dir_fd=fd)
                os.fsync(fd)
            try:
                below = os.open(folder, _FOLDER, dir_fd=fd)
            except OSError as error:
                if error.errno not in (errno.ELOOP, errno.ENOTDIR):
                    raise
                raise Conflict(
                    str(self._root / path),
                    why=f"a link or file stands where its folder {folder!r} must be",
                    hint="remove it, or name another folder",
                ) from error
        os.close(fd)
        return below


def _raise(error: OSError) -> None:
    raise error


def _bad_chunk(row: FileRow, chunk: int) -> ChecksumMismatch:
    return ChecksumMismatch(
        f"{row.path}, chunk {chunk} (from byte {chunk * CHUNK})",
        why=f"layer {row.layer} holds other bytes there than the artifact's table states",
        hint="modelctl verify --depth full says which layers are bad; pack or copy the artifact again",
    )


def _right_prefix(blob: FileBlob, row: FileRow, advance: Callable[[int], None]) -> int:
    """Return how many leading bytes of `blob` are proved; `advance` is told of them."""
    prover = ChunkProver(row.size, row.chunks)
    buffer = memoryview(bytearray(min(BUFFER, blob.size)))
    for offset, length in pieces(blob.size):
        blob.read_into(offset, buffer[:length])
        before = prover.proved
        if not prover.update(buffer[:length]):
            break
        advance(prover.proved - before)
    return prover.proved
