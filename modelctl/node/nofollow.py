"""Folders entered, and things in them removed, without following a link that somebody planted."""

from __future__ import annotations

import errno
import os
import shutil
import stat
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from pathlib import Path

from modelctl.core.disk import on_disk
from modelctl.core.errors import Conflict

_FOLDER = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_IN_THE_WAY = (errno.ELOOP, errno.ENOTDIR, errno.EISDIR, errno.ENOTEMPTY)


def enter(name: str, fd: int, path: Path) -> int:
    """Open the folder `name` of the folder `fd`, made when it is missing, without following a link.

    Raises:
        Conflict: A link or a file stands there; says so of `path`.
    """
    with unobstructed(path):
        with suppress(FileExistsError):
            os.mkdir(name, dir_fd=fd)
            os.fsync(fd)
        return os.open(name, _FOLDER, dir_fd=fd)


@contextmanager
def unobstructed(path: Path) -> Iterator[None]:
    """Translate errors on `path`; that another kind of file stands in the way is a `Conflict`."""
    with on_disk(str(path)):
        try:
            yield
        except OSError as error:
            if error.errno not in _IN_THE_WAY:
                raise
            raise Conflict(
                str(path),
                why=f"a link, file or folder stands in its way: {os.strerror(error.errno)}",
                hint="remove it, or name another folder",
            ) from error


def is_folder(name: str, fd: int) -> bool:
    return stat.S_ISDIR(os.stat(name, dir_fd=fd, follow_symlinks=False).st_mode)


def remove(name: str, fd: int) -> None:
    """Remove a file, a link or a whole folder from the folder `fd`, following no link."""
    if is_folder(name, fd):
        shutil.rmtree(name, dir_fd=fd)
    else:
        os.unlink(name, dir_fd=fd)
