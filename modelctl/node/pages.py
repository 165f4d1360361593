"""The pages of files: brought into memory, held there, and counted.

Residency is the Rss of a mapping of one's own: to whoever does not own a file mincore says that all of it is in memory,
and cachestat refuses (kernel 6.1 to 6.18). Rss counts what this mapping has, and the kernel takes pages out of it when
it reclaims them.
"""

from __future__ import annotations

import ctypes
import errno
import os
import re
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import TracebackType

from modelctl.core.chunks import buffer_for, pieces
from modelctl.core.disk import FileBlob, on_disk
from modelctl.core.errors import DiskProblem, NotFound

WINDOW = 64 << 20
"""Bytes that one madvise populates: the kernel can be interrupted between two."""

_POPULATE_READ = 22
_PAGE = os.sysconf("SC_PAGESIZE")
_PROT_READ, _MAP_SHARED = 1, 1
_FAILED = ctypes.c_void_p(-1).value

_libc = ctypes.CDLL(None, use_errno=True)
_libc.mmap.restype = ctypes.c_void_p
_libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int, ctypes.c_int, ctypes.c_int, ctypes.c_long]
_libc.munmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t]
_libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]


class Pages:
    """A file mapped for reading, whose pages can be brought in. Its mapping holds none by itself. Thread-safe.

    The mapping lasts without a descriptor: a model may have more files than a process may have open.
    """

    def __init__(self, path: Path) -> None:
        """Map `path`, which is not followed when it is a link.

        Raises:
            NotFound, Denied, DiskProblem: The operating system refuses.
        """
        self.name = str(path)
        with on_disk(self.name):
            fd = self._open()
            try:
                self._status = os.fstat(fd)
                self.size = self._status.st_size
                self._address = _map(fd, self.size) if self.size else 0
            finally:
                os.close(fd)

    def __enter__(self) -> Pages:
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, _: TracebackType | None) -> None:
        self.close()

    def check(self) -> None:
        """Raise `NotFound` when another file, or none, is at the path: the mapping holds memory for nobody then."""
        with on_disk(self.name):
            try:
                there = os.path.samestat(os.stat(self.name, follow_symlinks=False), self._status)
            except (FileNotFoundError, NotADirectoryError):
                there = False
        if not there:
            raise self._gone()

    @contextmanager
    def reading(self) -> Iterator[FileBlob]:
        """Open the file again until the `with` ends: its bytes are those that are mapped, or it is `NotFound`."""
        with on_disk(self.name):
            fd = self._open()
        try:
            if not os.path.samestat(os.fstat(fd), self._status):
                raise self._gone()
            yield FileBlob(fd, self.size, self.name)
        finally:
            os.close(fd)

    def _open(self) -> int:
        return os.open(self.name, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)

    def _gone(self) -> NotFound:
        return NotFound(
            self.name,
            why="it was removed, or replaced, after it was brought into memory",
            hint="modelctl node pull brings the model back; one that is not wanted needs no holder",
        )

    def populate(self, advance: Callable[[int], None]) -> None:
        """Bring every page in that is not there, and into the mapping.

        Args:
            advance: Told of each window that was brought in [bytes]; may raise to stop.

        Raises:
            DiskProblem: The disk cannot read it, or the file is shorter than it was.
        """
        for start in range(0, self.size, WINDOW):
            length = min(WINDOW, self.size - start)
            self._populate(start, length)
            advance(length)

    def _populate(self, start: int, length: int) -> None:
        while _libc.madvise(self._address + start, length, _POPULATE_READ):
            number = ctypes.get_errno()
            if number == errno.EINVAL:
                self.read(start, length)
                return
            if number not in (errno.EINTR, errno.EAGAIN):
                why = f"its pages from byte {start} on could not be read: {os.strerror(number)}"
                raise DiskProblem(self.name, why=why, hint="look at the kernel's log (dmesg) for the device")

    def read(self, start: int, length: int) -> None:
        """Bring pages in as kernels before 5.14 can: read them, then touch one byte of each in the mapping."""
        buffer = buffer_for(length)
        with self.reading() as blob:
            for offset, count in pieces(start + length, start):
                blob.read_into(offset, buffer[:count])
        mapped = (ctypes.c_char * length).from_address(self._address + start)
        bytes(memoryview(mapped)[::_PAGE])

    def close(self) -> None:
        if self._address:
            _libc.munmap(self._address, self.size)
            self._address = 0

    @property
    def address(self) -> int:
        """Where the mapping begins; 0 of an empty file."""
        return self._address


def _map(fd: int, size: int) -> int:
    address = _libc.mmap(None, size, _PROT_READ, _MAP_SHARED, fd, 0)
    if address == _FAILED:
        raise OSError(ctypes.get_errno(), "mmap")
    return int(address)


def resident(files: Iterable[Pages]) -> list[int]:
    """Return how much of each file its mapping has in memory now [bytes], at most the file's size.

    Source: proc(5), /proc/pid/smaps: a header line for each mapping, its Rss in KiB below.
    """
    found: dict[int, int] = {}
    address = 0
    with on_disk("/proc/self/smaps"), open("/proc/self/smaps", "rb") as lines:
        for line in lines:
            if header := re.match(rb"([0-9a-f]+)-[0-9a-f]+ ", line):
                address = int(header[1], 16)
            elif line.startswith(b"Rss:"):
                found[address] = int(line.split()[1]) << 10
    return [min(found.get(file.address, 0), file.size) for file in files]
