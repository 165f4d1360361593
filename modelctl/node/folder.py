"""A model's folder, filled file by file: each appears under its name when its bytes are proved, and not before.

Unfinished files stand in `.modelctl.unfinished/<manifest digest>/`. What a killed run left of them is proved again
chunk by chunk, so there is no journal that could say otherwise. Every path is walked by folder descriptors without
following links, so nothing outside the target is touched, whoever wrote into it.
"""

from __future__ import annotations

import errno
import fcntl
import os
import stat
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path

from modelctl.core.chunks import CHUNK
from modelctl.core.disk import FileBlob, locked, on_disk
from modelctl.core.errors import Conflict, DiskProblem, NotFound
from modelctl.core.protocols import Blob
from modelctl.core.types import Digest, FileRow
from modelctl.node.nofollow import enter, is_folder, remove, unobstructed
from modelctl.node.part import Part, part_name, right_until, segments

UNFINISHED = ".modelctl.unfinished"

_LOCK = "lock"


@contextmanager
def open_folder(path: str | os.PathLike[str], digest: Digest, *, overwrite: bool) -> Iterator[Folder]:
    """Make the folder if need be and hold it alone until the `with` ends.

    Args:
        path: The target.
        digest: The manifest's digest: which artifact the folder is filled from.
        overwrite: Whether files that are not this artifact's may be there already.

    Raises:
        Conflict: Another modelctl fills it, it holds an unfinished pull of another artifact, or a link or a file
            stands where the unfinished files go.
    """
    root = Path(path)
    with ExitStack() as stack:
        stack.enter_context(_made(root))
        with on_disk(str(root)):
            root_fd = os.open(root, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        stack.callback(os.close, root_fd)
        unfinished_fd = stack.enter_context(_alone(root, root_fd))
        folder = Folder(root, root_fd, unfinished_fd, digest, overwrite=overwrite)
        try:
            with folder.prepared():
                yield folder
        except BaseException:
            folder.tidy(finished=False)
            raise
        folder.tidy(finished=True)


@contextmanager
def _made(root: Path) -> Iterator[None]:
    """Make a folder. One that was not there goes again, if it can, when the job fails and nothing is in it."""
    with on_disk(str(root)):
        new = not root.exists()
        root.mkdir(parents=True, exist_ok=True)
    try:
        yield
    except BaseException:
        if new:
            with suppress(OSError):
                root.rmdir()
        raise


@contextmanager
def _alone(root: Path, root_fd: int) -> Iterator[int]:
    """Make the place for unfinished files and hold it; `Conflict` when another modelctl holds or just removed it."""
    with ExitStack() as stack:
        try:
            fd = enter(UNFINISHED, root_fd, root / UNFINISHED)
            stack.callback(os.close, fd)
            lock = root / UNFINISHED / _LOCK
            stack.enter_context(locked(lock, fcntl.LOCK_EX | fcntl.LOCK_NB, busy=str(root), dir_fd=fd))
        except NotFound as error:
            raise Conflict(
                f"{root} is in use", why="another modelctl just ended there", hint="run the same command again"
            ) from error
        yield fd


class Folder:
    """A target held by this process; see `open_folder`. Thread-safe for different files."""

    def __init__(self, root: Path, root_fd: int, unfinished_fd: int, digest: Digest, *, overwrite: bool) -> None:
        self._root, self._root_fd, self._unfinished_fd = root, root_fd, unfinished_fd
        self._own, self._own_fd, self._overwrite = digest.removeprefix("sha256:"), -1, overwrite

    @contextmanager
    def prepared(self) -> Iterator[None]:
        """Make the place for unfinished files and hold it open; `Conflict` when there are another artifact's."""
        place = self._root / UNFINISHED
        with on_disk(str(place)):
            others = set(os.listdir(self._unfinished_fd)) - {_LOCK, self._own}
            if others and not self._overwrite:
                raise Conflict(
                    f"{self._root} holds an unfinished pull of another artifact",
                    why=f"of sha256:{min(others)}",
                    hint="finish that one, name another folder, or go over it with --overwrite",
                )
            for other in others:
                remove(other, self._unfinished_fd)
        self._own_fd = enter(self._own, self._unfinished_fd, place / self._own)
        try:
            yield
        finally:
            os.close(self._own_fd)

    def tidy(self, *, finished: bool) -> None:
        """Remove the place for unfinished files, unless some are there for the next run to go on with."""
        with on_disk(str(self._root / UNFINISHED)):
            names = set(os.listdir(self._unfinished_fd)) - {_LOCK}
            if not finished and any(self._holds_files(name) for name in names):
                return
            for name in names:
                remove(name, self._unfinished_fd)
            os.unlink(_LOCK, dir_fd=self._unfinished_fd)
            with _another_may_have_begun():
                os.rmdir(UNFINISHED, dir_fd=self._root_fd)
            os.fsync(self._root_fd)

    def _holds_files(self, name: str) -> bool:
        return not is_folder(name, self._unfinished_fd) or any(
            files for _, _, files, _ in os.fwalk(name, dir_fd=self._unfinished_fd)
        )

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
            right = right_until(blob, row, 0, advance)
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
            parts = {item.name: item.stat(follow_symlinks=False) for item in os.scandir(self._own_fd)}
        kept = {name: min(part.st_blocks * 512, part.st_size) for name, part in parts.items()}
        needed = sum(row.size - min(row.size, kept.get(part_name(row), 0)) for row in rows)
        if needed > free.f_bavail * free.f_frsize:
            raise DiskProblem(
                str(self._root),
                why=f"{needed} bytes are needed and {free.f_bavail * free.f_frsize} are free",
                hint="free some space, or pull less with --include",
            )

    def restore(self, row: FileRow, blob: Blob, advance: Callable[[int], None]) -> None:
        """Fill the whole file of `row`, as `Part.fill` does a segment, and put it in its place."""
        with closing(self.part(row)) as part:
            for segment in segments(row.size):
                part.fill(segment, blob, advance)

    def part(self, row: FileRow) -> Part:
        """Return the unfinished file of `row`, to be filled in segments."""
        return Part(self, row)

    def open_part(self, name: str) -> int:
        """Open an unfinished file, made when it is not there; `Conflict` when somebody put something in its place."""
        place = self._root / UNFINISHED / self._own / name
        with unobstructed(place):
            fd = os.open(name, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=self._own_fd)
            status = os.fstat(fd)
        if not stat.S_ISREG(status.st_mode) or status.st_nlink != 1:
            os.close(fd)
            raise Conflict(str(place), why="somebody else linked it", hint="remove it")
        return fd

    def put_in_place(self, part: str, fd: int, path: str) -> None:
        """Flush an unfinished file and give it its name, durably."""
        with self._parent(path) as (parent, name), unobstructed(self._root / path):
            os.fsync(fd)
            os.rename(part, name, src_dir_fd=self._own_fd, dst_dir_fd=parent)
            os.fsync(parent)

    def place(self, path: str) -> str:
        """Return the path in the file system, for errors."""
        return str(self._root / path)

    @contextmanager
    def _parent(self, path: str) -> Iterator[tuple[int, str]]:
        """Open the folder that `path` goes into, making what is missing; yield its descriptor and the last name."""
        *folders, name = path.split("/")
        fd = os.dup(self._root_fd)
        try:
            for folder in folders:
                below = enter(folder, fd, self._root / path)
                os.close(fd)
                fd = below
            yield fd, name
        finally:
            os.close(fd)


@contextmanager
def _another_may_have_begun() -> Iterator[None]:
    """Let a folder stay that is no longer empty, or gone."""
    try:
        yield
    except OSError as error:
        if error.errno not in (errno.ENOTEMPTY, errno.ENOENT):
            raise


def _raise(error: OSError) -> None:
    raise error
