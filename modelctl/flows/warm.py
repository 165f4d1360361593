"""Bring a model's folder into memory, prove it where its table is known, count what is there, and hold it."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path

import msgspec

from modelctl.core.disk import read_file
from modelctl.core.errors import ChecksumMismatch, DigestMismatch, NotFound, Partial
from modelctl.core.progress import Progress
from modelctl.core.types import Digest, FileRow, digest_of
from modelctl.flows.workers import Workers
from modelctl.node.memory import memory_limit
from modelctl.node.pages import Pages, resident
from modelctl.node.part import right_until
from modelctl.packing.table import MAX_TABLE_SIZE, MEMBERS, Table, join_table, parse_table
from modelctl.sources import open_source


class WarmFile(msgspec.Struct, kw_only=True):
    """A file, and how much of it is in memory [bytes]."""

    path: str
    size: int
    resident: int


class WarmReport(msgspec.Struct, kw_only=True):
    """What is in memory; sizes in bytes. `table` is the digest of the table that the files were proved by, or empty."""

    folder: str
    table: str
    size: int
    resident: int
    files: list[WarmFile]


@dataclass(frozen=True)
class Warmed:
    """The files of a folder, mapped as long as the `with` of `warmed` lasts."""

    folder: str
    table: str
    paths: Sequence[str]
    pages: Sequence[Pages]

    def measure(self) -> WarmReport:
        """Count what is in memory now.

        Raises:
            NotFound: A file was removed or replaced: what is in memory is not the model's any more.
        """
        for pages in self.pages:
            pages.check()
        found = resident(self.pages)
        return WarmReport(
            folder=self.folder,
            table=self.table,
            size=sum(pages.size for pages in self.pages),
            resident=sum(found),
            files=[
                WarmFile(path=path, size=pages.size, resident=count)
                for path, pages, count in zip(self.paths, self.pages, found, strict=True)
            ],
        )

    def refresh(self, advance: Callable[[int], None]) -> tuple[int, WarmReport]:
        """Bring in again what the kernel took away; return how much that was [bytes], and what is in memory then.

        To count costs more than all else: it is done again only when something was missing.

        Args:
            advance: Told of each window that was looked at [bytes].

        Raises:
            NotFound: As `measure`.
        """
        before = self.measure()
        missing = before.size - before.resident
        for pages, file in zip(self.pages, before.files, strict=True):
            if file.resident < file.size:
                pages.populate(advance)
        return missing, self.measure() if missing else before


def missing_pages(measured: WarmReport) -> Partial | None:
    """Return what is wrong when not all of a model is in memory."""
    if measured.resident == measured.size:
        return None
    limit = memory_limit()
    said = f"; the container may use {limit}" if limit else ""
    return Partial(
        measured.folder,
        why=f"{measured.resident} of {measured.size} bytes are in memory{said}",
        hint="take the container's memory limit away, or use a machine with more",
    )


@contextmanager
def warmed(folder: str, table: Digest | None, jobs: int | None, progress: Progress) -> Iterator[Warmed]:
    """Map the files of `folder`, bring them into memory, and keep them mapped until the `with` ends.

    Args:
        folder: A model's: pulled, or a mounted artifact.
        table: Digest of the artifact's table, from whoever was told it by the registry: the mounted folder must hold
            that table, and every file is proved by it. None: whatever files there are, unproved.
        jobs: Files at once.
        progress: Told of each window that is in memory.

    Raises:
        DigestMismatch: The folder's table is another. ChecksumMismatch: A file is not what the table says.
        NotFound: A file, or the folder's table, is missing. DiskProblem: A disk cannot be read.
    """
    rows = _rows(folder, table) if table else {}
    paths = sorted(rows) or _paths(folder)
    if not paths:
        raise NotFound(folder, why="it holds no files")
    workers = Workers(jobs, progress)
    with ExitStack() as stack:
        pages = [stack.enter_context(Pages(_place(folder, path, proved=bool(table)))) for path in paths]
        workers.expect(len(pages), sum(one.size for one in pages))

        def warm_one(item: tuple[str, Pages]) -> None:
            path, one = item
            with workers.part(path, one.size) as advance:
                one.populate(advance)
                if path in rows:
                    _prove(one, rows[path])

        workers.run(warm_one, list(zip(paths, pages, strict=True)))
        yield Warmed(folder, table or "", paths, pages)


def _place(folder: str, path: str, *, proved: bool) -> Path:
    """Return where a file is. Without a table links are followed: the source took only those that stay in its cache."""
    place = Path(folder, path)
    return place if proved else place.resolve()


def _nobody(_size: int) -> None:
    """Nobody is told."""


def _every(_path: str) -> bool:
    return True


def _paths(folder: str) -> list[str]:
    return [entry.path for entry in open_source(folder).list(_every)]


def _rows(folder: str, digest: Digest) -> dict[str, FileRow]:
    """Return the table's rows by path below `folder`."""
    table = _mounted_table(folder, digest)
    return {table.prefix + row.path: row for row in table.rows}


def _mounted_table(folder: str, digest: Digest) -> Table:
    """Build the table's blob again from the three files that the mount shows of it, and demand that it is `digest`."""
    blob = join_table({name: read_file(Path(folder, name), MAX_TABLE_SIZE) for name in MEMBERS})
    if digest_of(blob) != digest:
        raise DigestMismatch(
            f"the table in {folder}",
            why=f"it is {digest_of(blob)}; {digest} was expected",
            hint="another version is mounted than the one that was asked for",
        )
    return parse_table(blob)


def _prove(pages: Pages, row: FileRow) -> None:
    if pages.size != row.size:
        raise ChecksumMismatch(pages.name, why=f"it has {pages.size} bytes, expected {row.size}")
    with pages.reading() as blob:
        right = right_until(blob, row, 0, _nobody)
    if right != row.size:
        raise ChecksumMismatch(
            pages.name,
            why=f"from byte {right} on it has other bytes than the artifact's table states",
            hint="the node's copy is bad: remove it there, and pull again",
        )
