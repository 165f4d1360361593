"""A file filled in segments, in any order and over what an earlier run left."""

from __future__ import annotations

import os
from contextlib import closing
from pathlib import Path

import pytest

from modelctl.core.chunks import CHUNK
from modelctl.core.errors import ChecksumMismatch
from modelctl.node.part import Part, part_name, segments
from tests.fakes.memory import MemoryBlob
from tests.node.files import LARGE, nothing, row_of

ROW = row_of("large", LARGE)
FIRST, SECOND, *_ = segments(len(LARGE), CHUNK)
ALL = segments(len(LARGE), CHUNK)


class PlainFolder:
    """A folder of parts and finished files, side by side."""

    def __init__(self, root: Path) -> None:
        self.root = root

    def open_part(self, name: str) -> int:
        return os.open(self.root / name, os.O_RDWR | os.O_CREAT)

    def put_in_place(self, part: str, fd: int, path: str) -> None:
        os.rename(self.root / part, self.root / path)

    def place(self, path: str) -> str:
        return str(self.root / path)


def fill(root: Path, order: list[tuple[int, int]], blob: MemoryBlob) -> None:
    with closing(Part(PlainFolder(root), ROW, CHUNK)) as part:
        for segment in order:
            part.fill(segment, blob, nothing)


def test_the_segments_cover_the_file_once() -> None:
    covered = b"".join(LARGE[start:end] for start, end in ALL)
    assert (covered, len(ALL) > 1) == (LARGE, True)


def test_an_empty_file_has_one_segment() -> None:
    assert segments(0) == [(0, 0)]


@pytest.mark.parametrize("order", [ALL, ALL[::-1]], ids=["forward", "backward"])
def test_whatever_the_order_the_file_comes_out_right(tmp_path: Path, order: list[tuple[int, int]]) -> None:
    fill(tmp_path, order, MemoryBlob(LARGE))
    assert (tmp_path / "large").read_bytes() == LARGE


def test_the_file_has_no_name_before_the_last_segment(tmp_path: Path) -> None:
    fill(tmp_path, ALL[1:], MemoryBlob(LARGE))
    assert not (tmp_path / "large").exists()


def test_a_segment_that_stands_already_is_not_read_again(tmp_path: Path) -> None:
    fill(tmp_path, [SECOND], MemoryBlob(LARGE))
    blob = MemoryBlob(LARGE)
    fill(tmp_path, [SECOND], blob)
    assert blob.reads == []


def test_a_hole_before_it_is_filled(tmp_path: Path) -> None:
    fill(tmp_path, [SECOND], MemoryBlob(LARGE))
    fill(tmp_path, ALL, MemoryBlob(LARGE))
    assert (tmp_path / "large").read_bytes() == LARGE


def test_a_wrong_chunk_in_an_early_segment_leaves_the_later_one(tmp_path: Path) -> None:
    fill(tmp_path, [SECOND], MemoryBlob(LARGE))
    wrong = b"?" + LARGE[1:]
    with pytest.raises(ChecksumMismatch):
        fill(tmp_path, [FIRST], MemoryBlob(wrong))
    start, end = SECOND
    assert (tmp_path / part_name(ROW)).read_bytes()[start:end] == LARGE[start:end]
