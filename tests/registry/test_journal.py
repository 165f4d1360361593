"""The journal of an upload: `XDG_CACHE_HOME` is each test's own."""

from __future__ import annotations

import os
import resource
import signal
import stat
from pathlib import Path

import pytest

from modelctl.core.types import Checkpoint
from modelctl.registry.journal import KEPT_S, Journal, open_journal


def checkpoint(position: int) -> Checkpoint:
    return Checkpoint(
        position=position, file=0, end=position, sha256=b"s" * 112, crc32=1, crc64=2**64 - 1, chunk=b"c" * 32
    )


def held(journal: Journal | None) -> Journal:
    assert journal is not None
    return journal


def files() -> list[Path]:
    return list((Path(os.environ["XDG_CACHE_HOME"]) / "modelctl/uploads").iterdir())


@pytest.fixture
def written() -> Path:
    """A journal with a location and two checkpoints, that nobody holds."""
    with open_journal("upload") as journal:
        held(journal).set_location("http://registry/upload/1")
        held(journal).add(checkpoint(10))
        held(journal).add(checkpoint(20))
    (path,) = files()
    return path


def test_another_process_finds_what_was_written(written: Path) -> None:
    with open_journal("upload") as journal:
        found = held(journal)
        assert (found.location, found.checkpoints) == ("http://registry/upload/1", [checkpoint(10), checkpoint(20)])


def test_another_upload_finds_nothing(written: Path) -> None:
    with open_journal("another") as journal:
        assert (held(journal).location, held(journal).checkpoints) == ("", [])


def test_only_its_owner_may_read_it(written: Path) -> None:
    assert stat.S_IMODE(written.stat().st_mode) == 0o600


def test_who_finds_it_held_goes_without(written: Path) -> None:
    with open_journal("upload"), open_journal("upload") as second:
        assert second is None


@pytest.mark.parametrize("lost", [1, 50, 100])
def test_a_last_line_that_was_cut_is_dropped(written: Path, lost: int) -> None:
    os.truncate(written, written.stat().st_size - lost)
    with open_journal("upload") as journal:
        assert held(journal).checkpoints == [checkpoint(10)]


def test_after_a_cut_line_it_is_written_on(written: Path) -> None:
    os.truncate(written, written.stat().st_size - 1)
    with open_journal("upload") as journal:
        held(journal).add(checkpoint(30))
    with open_journal("upload") as journal:
        assert held(journal).checkpoints == [checkpoint(10), checkpoint(30)]


@pytest.mark.parametrize("data", [b"\xff\xfe", b"{}", b"[1]\n", b'{"checkpoint": 1}\n', b"x" * 5000])
def test_garbage_is_an_empty_journal(written: Path, data: bytes) -> None:
    written.write_bytes(data)
    with open_journal("upload") as journal:
        assert (held(journal).location, held(journal).checkpoints) == ("", [])


def test_an_upload_that_is_done_leaves_none(written: Path) -> None:
    with open_journal("upload") as journal:
        held(journal).remove()
    assert files() == []


def test_old_journals_are_removed(written: Path) -> None:
    long_ago = written.stat().st_mtime - KEPT_S - 1
    os.utime(written, (long_ago, long_ago))
    with open_journal("another"):
        assert written not in files()


def test_without_a_cache_folder_an_upload_has_no_journal(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    with open_journal("upload") as journal:
        assert journal is None


def test_after_a_line_that_could_not_be_written_none_is(written: Path) -> None:
    """A limit of the file's size stands in for a full disk."""
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    before = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    with open_journal("upload") as journal:
        resource.setrlimit(resource.RLIMIT_FSIZE, (written.stat().st_size, limits[1]))
        try:
            held(journal).add(checkpoint(30))
        finally:
            resource.setrlimit(resource.RLIMIT_FSIZE, limits)
            signal.signal(signal.SIGXFSZ, before)
        held(journal).add(checkpoint(40))
    with open_journal("upload") as journal:
        assert held(journal).checkpoints == [checkpoint(10), checkpoint(20)]
