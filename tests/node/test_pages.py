"""What is in memory, as the mapping's Rss says and as mincore says to root, who is not lied to."""

from __future__ import annotations

import ctypes
import mmap
import os
import subprocess
from pathlib import Path

import pytest

from modelctl.core.errors import Denied, DiskProblem, NotFound
from modelctl.node.pages import WINDOW, Pages, resident

PAGE = mmap.PAGESIZE
SIZES = [1, PAGE, PAGE + 1, 3 << 20, WINDOW + PAGE + 7]


def cold(path: Path, size: int) -> Path:
    """Write a file, and drop its pages."""
    path.write_bytes(os.urandom(1 << 16) * (size >> 16) + b"x" * (size & 0xFFFF))
    with path.open("rb") as file:
        os.fsync(file.fileno())
        os.posix_fadvise(file.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    return path


def in_core(path: Path) -> int:
    """Return what mincore says is in memory of a file that we own [bytes]."""
    libc = ctypes.CDLL(None, use_errno=True)
    size = path.stat().st_size
    with path.open("r+b") as file, mmap.mmap(file.fileno(), size) as mapped:
        hold = ctypes.c_char.from_buffer(mapped)
        pages = (ctypes.c_ubyte * (-(-size // PAGE)))()
        assert libc.mincore(ctypes.c_void_p(ctypes.addressof(hold)), ctypes.c_size_t(size), pages) == 0
        del hold
    return min(sum(page & 1 for page in pages) * PAGE, size)


@pytest.mark.parametrize("size", SIZES)
def test_a_populated_file_is_all_in_memory(tmp_path: Path, size: int) -> None:
    with Pages(cold(tmp_path / "file", size)) as pages:
        pages.populate(lambda length: None)
        assert resident([pages]) == [size]
    assert in_core(tmp_path / "file") == size


@pytest.mark.parametrize("size", SIZES)
def test_a_file_that_is_read_instead_is_too(tmp_path: Path, size: int) -> None:
    with Pages(cold(tmp_path / "file", size)) as pages:
        for start in range(0, size, WINDOW):
            pages.read(start, min(WINDOW, size - start))
        assert resident([pages]) == [size]


def test_a_mapping_alone_brings_nothing_in(tmp_path: Path) -> None:
    with Pages(cold(tmp_path / "file", 3 << 20)) as pages:
        assert resident([pages]) == [0]
    assert in_core(tmp_path / "file") == 0


def test_only_what_was_populated_counts(tmp_path: Path) -> None:
    with Pages(cold(tmp_path / "one", 3 << 20)) as one, Pages(cold(tmp_path / "two", 2 << 20)) as two:
        two.populate(lambda length: None)
        assert resident([one, two]) == [0, 2 << 20]


def test_pages_that_were_taken_away_do_not_count(tmp_path: Path) -> None:
    with Pages(cold(tmp_path / "file", 3 << 20)) as pages:
        pages.populate(lambda length: None)
        os.truncate(tmp_path / "file", 1 << 20)
        assert resident([pages]) == [1 << 20]


def test_it_tells_how_much_is_done(tmp_path: Path) -> None:
    told: list[int] = []
    with Pages(cold(tmp_path / "file", WINDOW + 5)) as pages:
        pages.populate(told.append)
    assert told == [WINDOW, 5]


def test_a_file_that_became_shorter_is_an_error(tmp_path: Path) -> None:
    with Pages(cold(tmp_path / "file", 3 << 20)) as pages:
        os.truncate(tmp_path / "file", 1 << 20)
        with pytest.raises(DiskProblem, match="could not be read"):
            pages.populate(lambda length: None)


def test_an_empty_file_has_nothing_to_bring_in(tmp_path: Path) -> None:
    (tmp_path / "empty").touch()
    with Pages(tmp_path / "empty") as pages:
        pages.populate(lambda length: None)
        assert resident([pages]) == [0]


def test_a_file_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Pages(tmp_path / "file")


def test_a_link_is_refused(tmp_path: Path) -> None:
    (tmp_path / "link").symlink_to("/etc/passwd")
    with pytest.raises((DiskProblem, Denied)):
        Pages(tmp_path / "link")


def test_a_file_that_is_where_it_was_passes_the_check(tmp_path: Path) -> None:
    with Pages(cold(tmp_path / "file", PAGE)) as pages:
        pages.check()


@pytest.mark.parametrize("command", ["rm file", "rm file; mkdir file", "cp file new; mv new file", "ln -sf new file"])
def test_a_file_that_was_removed_or_replaced_is_not_found(tmp_path: Path, command: str) -> None:
    with Pages(cold(tmp_path / "file", PAGE)) as pages:
        subprocess.run(command, shell=True, cwd=tmp_path, check=True)
        with pytest.raises(NotFound, match="file"):
            pages.check()


def test_a_file_whose_folder_is_gone_is_not_found(tmp_path: Path) -> None:
    (tmp_path / "folder").mkdir()
    with Pages(cold(tmp_path / "folder/file", PAGE)) as pages:
        (tmp_path / "folder").rename(tmp_path / "other")
        with pytest.raises(NotFound):
            pages.check()


def test_the_bytes_that_are_read_are_those_that_are_mapped(tmp_path: Path) -> None:
    with Pages(cold(tmp_path / "file", PAGE)) as pages:
        buffer = memoryview(bytearray(PAGE))
        with pages.reading() as blob:
            blob.read_into(0, buffer)
        assert buffer == (tmp_path / "file").read_bytes()
        cold(tmp_path / "new", PAGE).rename(tmp_path / "file")
        with pytest.raises(NotFound), pages.reading():
            pass


def test_a_mapped_file_is_not_open(tmp_path: Path) -> None:
    before = os.listdir("/proc/self/fd")
    with Pages(cold(tmp_path / "file", PAGE)):
        assert os.listdir("/proc/self/fd") == before


def test_where_the_kernel_has_no_populate_it_reads(tmp_path: Path) -> None:
    """An address that is not a page's gets the answer that old kernels give to all: EINVAL."""
    with Pages(cold(tmp_path / "file", 3 << 20)) as pages:
        pages._populate(512, (3 << 20) - 512)
        assert resident([pages]) == [3 << 20]
