"""Compute the CRC-32 of every file of a folder, as a crc32.txt."""

from __future__ import annotations

import os
from collections.abc import Container
from contextlib import closing

import msgspec

from modelctl.core.checksum import Crcs
from modelctl.core.chunks import feed
from modelctl.core.disk import on_disk
from modelctl.core.errors import NotFound
from modelctl.core.paths import check_paths
from modelctl.core.progress import Progress
from modelctl.core.protocols import Source
from modelctl.core.types import Entry
from modelctl.flows.workers import Workers
from modelctl.node.folder import UNFINISHED
from modelctl.packing.crc32_list import CRC32_LIST, MAX_LIST_SIZE, Crc32Line, parse_crc32_list, render_crc32_list
from modelctl.sources import open_source


class Crc32File(msgspec.Struct, kw_only=True):
    path: str
    crc32: str


class Crc32Report(msgspec.Struct, kw_only=True):
    """The CRC-32 of each file of a folder, as 8 hex digits, by path."""

    files: list[Crc32File]

    def crc32_list(self) -> str:
        """Return them as a crc32.txt."""
        return render_crc32_list(Crc32Line(file.path, int(file.crc32, 16)) for file in self.files)


def compute_crc32s(folder: str, jobs: int | None, progress: Progress) -> Crc32Report:
    """Return the CRC-32 of every file of `folder` but its own crc32.txt.

    Raises:
        Invalid: A file that could not be packed, by its name or kind.
    """
    source = open_source(folder)
    entries = list(source.list(lambda path: path != CRC32_LIST and not path.startswith(UNFINISHED)))
    check_paths(entry.path for entry in entries)
    workers = Workers(jobs, progress)
    workers.expect(len(entries), sum(entry.size for entry in entries))

    def compute(entry: Entry) -> Crc32File:
        return Crc32File(path=entry.path, crc32=f"{crc32_of(source, entry, workers):08x}")

    return Crc32Report(files=list(workers.run(compute, entries)))


def crc32_of(source: Source, entry: Entry, workers: Workers) -> int:
    """Read one file and return its CRC-32."""
    crcs = Crcs()
    with closing(source.open(entry)) as blob, workers.part(entry.path, entry.size) as advance:
        feed(blob, 0, entry.size, [crcs.update], advance)
    source.check(entry)
    return crcs.crc32


def own_names(folder: str, list_path: str) -> set[str]:
    """Return the paths in `folder` that a list may have had when it was written: crc32.txt, and where it is now."""
    here = os.path.relpath(os.path.realpath(list_path), os.path.realpath(folder))
    return {CRC32_LIST, here}


def read_crc32_list(path: str, own: Container[str]) -> dict[str, int]:
    """Read a list, in which lines for its `own` names do not count, into {path: CRC-32}."""
    with on_disk(path), open(path, "rb") as file:
        sums = parse_crc32_list(file.read(MAX_LIST_SIZE + 1), path, own)
    if not sums:
        raise NotFound(path, why="it lists no file", hint="modelctl crc32 DIR > crc32.txt writes one")
    return sums
