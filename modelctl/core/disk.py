"""Local files, as every room uses them: errors translated, reads by position, durable renames, locks between processes.

Knows nothing of models or artifacts.
"""

from __future__ import annotations

import errno
import fcntl
import os
import secrets
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from modelctl.core.errors import ChecksumMismatch, Conflict, Denied, DiskProblem, Invalid, NotFound
from modelctl.core.types import Bytes

_HINTS = {
    errno.ENOSPC: "free some space, then run the same command again: what is done stays done",
    errno.EDQUOT: "free some of your quota, then run the same command again: what is done stays done",
    errno.EIO: "look at the kernel's log (dmesg) for the device, then run the same command again",
    errno.EMFILE: "raise the limit on open files (ulimit -n), or lower --jobs",
}


_LOCAL = {
    0xEF53: "ext2, ext3, ext4",
    0x58465342: "xfs",
    0x9123683E: "btrfs",
    0x2FC12FC1: "zfs",
    0xF2F52010: "f2fs",
    0xCA451A4E: "bcachefs",
    0x794C7630: "overlay",
    0x01021994: "tmpfs",
    0x858458F6: "ramfs",
}
"""File systems by what statfs(2) calls them."""


def is_local(path: Path) -> bool:
    """Say whether a file here that has the times it had has the bytes it had, and mappings of it are shared.

    So it is where this kernel alone writes, and a write moves the ctime at once. Not on FUSE, NFS, CIFS, 9p, Ceph or
    Lustre, nor in images that are mounted (squashfs, EROFS), whose times are the builder's; not where it is unknown.
    """
    import ctypes

    status = ctypes.create_string_buffer(256)  # struct statfs has 120 bytes, the first long of them is f_type
    found = ctypes.CDLL(None).statfs(os.fsencode(path), status) == 0
    return found and ctypes.c_long.from_buffer(status).value & 0xFFFFFFFF in _LOCAL


@contextmanager
def on_disk(what: str) -> Iterator[None]:
    """Translate the operating system's errors on `what` (a path) into modelctl's.

    Raises:
        NotFound: ENOENT, ENOTDIR. Denied: EACCES, EPERM, EROFS. DiskProblem: any other OSError.
        BrokenPipeError: As it is; no disk is at fault.
    """
    try:
        yield
    except BrokenPipeError:
        raise
    except OSError as error:
        number = error.errno or 0
        known = errno.errorcode.get(number)
        why = f"{os.strerror(number)} ({known})" if known else str(error)
        if number in (errno.ENOENT, errno.ENOTDIR):
            raise NotFound(what, why=why) from error
        if number in (errno.EACCES, errno.EPERM, errno.EROFS):
            raise Denied(what, why=why, hint="check the owner and the mode of the path") from error
        raise DiskProblem(what, why=why, hint=_HINTS.get(number, "")) from error


@dataclass
class FileBlob:
    """An open file as a `Blob`. Reads by position, so many threads may share it."""

    fd: int
    size: int
    name: str

    def read_into(self, offset: int, buffer: memoryview) -> None:
        """Fill `buffer`; `ChecksumMismatch` when the file ends before that."""
        while buffer:
            with on_disk(self.name):
                count = os.preadv(self.fd, [buffer], offset)
            if count == 0:
                raise ChecksumMismatch(
                    self.name, why=f"the file ended at byte {offset}; {self.size} bytes were expected"
                )
            buffer, offset = buffer[count:], offset + count

    def close(self) -> None:
        os.close(self.fd)


def write_all(fd: int, data: Bytes, name: str) -> None:
    """Write all of `data` at the file's position; `name` is for the error."""
    with on_disk(name):
        written = os.write(fd, data)
        while written < len(data):
            written += os.write(fd, memoryview(data)[written:])


def write_at(fd: int, data: memoryview, offset: int, name: str) -> None:
    """Write all of `data` at `offset`; `name` is for the error."""
    with on_disk(name):
        while data:
            count = os.pwrite(fd, data, offset)
            data, offset = data[count:], offset + count


def read_file(path: Path, limit: int) -> bytes:
    """Return what a regular file holds; a link is not followed.

    Raises:
        Invalid: It is none, or has more than `limit` bytes.
    """
    with on_disk(str(path)):
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            status = os.fstat(fd)
            if not stat.S_ISREG(status.st_mode) or status.st_size > limit:
                raise Invalid(str(path), why=f"expected a regular file of at most {limit} bytes")
            return file.read(limit)


def replace_file(path: Path, data: bytes, mode: int = 0o644) -> None:
    """Put `data` at `path` whole or not at all; a link there stays one, and what it names is replaced."""
    with on_disk(str(path)):
        final = path.resolve()
        unfinished = final.with_name(f"{final.name}.{secrets.token_hex(4)}")
        fd = os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, mode)
        try:
            with open(fd, "wb") as file:
                file.write(data)
                file.flush()
                os.fsync(fd)
            os.rename(unfinished, final)
        except BaseException:
            unfinished.unlink()
            raise
        sync_folder(final.parent)


def sync_folder(path: str | os.PathLike[str]) -> None:
    """Make the renames in a folder durable."""
    fd = os.open(path, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)


@contextmanager
def locked(path: Path, mode: int, busy: str = "", dir_fd: int | None = None) -> Iterator[int]:
    """Hold a flock on the file `path`, made when it is missing. It goes with the process.

    Args:
        path: The lock file. A file and not a folder: NFS locks only what is open for writing.
        mode: `fcntl.LOCK_SH` or `LOCK_EX`, with `LOCK_NB` to fail instead of waiting.
        busy: What the error says is in use.
        dir_fd: The open folder of `path`, when that must not be looked up again.

    Raises:
        Conflict: With `LOCK_NB`, somebody else holds it, or has removed it meanwhile.
    """
    place = path if dir_fd is None else Path(path.name)
    with on_disk(str(path)):
        fd = os.open(place, os.O_RDWR | os.O_CREAT | os.O_NOFOLLOW | os.O_CLOEXEC, 0o644, dir_fd=dir_fd)
    try:
        with on_disk(str(path)):
            try:
                fcntl.flock(fd, mode)
                held = os.path.samestat(os.fstat(fd), os.stat(place, dir_fd=dir_fd, follow_symlinks=False))
            except (BlockingIOError, FileNotFoundError):
                held = False
        if not held:
            raise Conflict(
                f"{busy} is in use",
                why="another modelctl writes to it",
                hint="run the same command when it is done",
            )
        yield fd
    finally:
        os.close(fd)
