"""A model in a local directory: `./Qwen3-8B` or `file:///models/Qwen3-8B`.

Regular files only. A link may point to a file inside the folder, or, when the folder is a snapshot of a Hugging Face
cache (`models--X/snapshots/REV`), to a file of its `blobs`.
"""

from __future__ import annotations

import os
import stat
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

from modelctl.core.access import DEFAULT_SOURCE_ACCESS, SourceAccess
from modelctl.core.disk import FileBlob, on_disk
from modelctl.core.errors import ChecksumMismatch, Invalid, NotFound
from modelctl.core.types import Entry, Origin


def open_source(location: str, _access: SourceAccess = DEFAULT_SOURCE_ACCESS) -> FileSource:
    """Open the folder `location`, for which no access is needed.

    Raises:
        NotFound: It is not there, or not a folder.
    """
    root = Path(location)
    with on_disk(f"folder {location!r}"):
        if not root.is_dir():
            raise NotFound(f"folder {location!r}", why="it is a file" if root.exists() else "there is no such folder")
        return FileSource(root.resolve(strict=True))


def version_of(status: os.stat_result) -> str:
    """Return what identifies the state of a file: another version means that it was replaced or written to."""
    return f"{status.st_dev}:{status.st_ino}:{status.st_size}:{status.st_mtime_ns}:{status.st_ctime_ns}"


@dataclass(frozen=True)
class FileSource:
    """`root` has no link in it."""

    root: Path

    @property
    def origin(self) -> Origin:
        return Origin(url=f"file://{self.root}")

    def list(self, wanted: Callable[[str], bool]) -> Iterable[Entry]:
        """Return every file whose path is `wanted`, by path.

        Raises:
            Invalid: A FIFO, socket or device; a link to a folder, to nothing, or out of the model.
        """
        return sorted(self._walk(self.root, "", wanted), key=lambda entry: entry.path)

    def _walk(self, folder: Path, prefix: str, wanted: Callable[[str], bool]) -> Iterator[Entry]:
        with on_disk(str(folder)):
            items = sorted(os.scandir(folder), key=lambda item: item.name)
        for item in items:
            path = prefix + item.name
            with on_disk(item.path):
                if item.is_dir(follow_symlinks=False):
                    yield from self._walk(Path(item.path), path + "/", wanted)
                elif wanted(path):
                    yield (self._linked(path) if item.is_symlink() else _entry(path, item.stat(follow_symlinks=False)))

    def _linked(self, path: str) -> Entry:
        try:
            target = (self.root / path).resolve(strict=True)
        except (OSError, RuntimeError) as error:
            raise Invalid(f"link {path!r}", why=f"it points to nothing: {os.readlink(self.root / path)!r}") from error
        inside = target.is_relative_to(self.root)
        in_cache = self.root.parent.name == "snapshots" and target.parent == self.root.parents[1] / "blobs"
        if not inside and not in_cache:
            raise Invalid(
                f"link {path!r}",
                why=f"it leaves the model: {str(target)!r}",
                hint="copy the file into the folder, or leave the link out with --exclude",
            )
        if target.is_dir():
            raise Invalid(f"link {path!r}", why="it points to a folder", hint="replace it by the folder itself")
        return _entry(path, target.stat())

    def open(self, entry: Entry) -> FileBlob:
        """Open the file without following what took its place since it was listed.

        Raises:
            ChecksumMismatch: It is not the version that was listed. NotFound, Denied, DiskProblem.
        """
        with on_disk(str(self.root / entry.path)):
            fd = os.open(self.root / entry.path, os.O_RDONLY | os.O_NONBLOCK | os.O_CLOEXEC)
            try:
                _same(entry, os.fstat(fd))
            except BaseException:
                os.close(fd)
                raise
        return FileBlob(fd, entry.size, str(self.root / entry.path))

    def check(self, entry: Entry) -> Entry:
        with on_disk(str(self.root / entry.path)):
            _same(entry, os.stat(self.root / entry.path))
        return entry


def _entry(path: str, status: os.stat_result) -> Entry:
    if not stat.S_ISREG(status.st_mode):
        kinds = {
            stat.S_IFIFO: "a FIFO",
            stat.S_IFSOCK: "a socket",
            stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device",
        }
        raise Invalid(
            repr(path),
            why=f"it is {kinds.get(stat.S_IFMT(status.st_mode), 'not a file')}; only regular files can be packed",
            hint="remove it, or leave it out with --exclude",
        )
    return Entry(path=path, size=status.st_size, version=version_of(status))


def _same(entry: Entry, status: os.stat_result) -> None:
    if version_of(status) != entry.version:
        raise ChecksumMismatch(
            f"{entry.path} changed while it was read",
            why=f"it had {entry.size} bytes when it was listed and has {status.st_size} now, "
            "or was written to or replaced in between",
            hint="wait until nobody writes to the folder, then run the same command again",
        )
