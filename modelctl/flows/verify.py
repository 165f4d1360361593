"""Prove what is in a store or a folder, and name everything that is not right.

One bad file does not end the job: the report says of each what was found.
"""

from __future__ import annotations

import hashlib
import posixpath
from collections.abc import Callable, Iterator, Sequence
from contextlib import closing, contextmanager

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.checksum import Crcs
from modelctl.core.choices import Depth
from modelctl.core.chunks import CHUNK, HASH_SIZE, ChunkHashes, feed
from modelctl.core.errors import ChecksumMismatch, ModelctlError, NotFound
from modelctl.core.progress import Progress
from modelctl.core.protocols import Blob, Source, Store
from modelctl.core.reference import Reference
from modelctl.core.types import Entry, FileRow
from modelctl.flows.crc32 import crc32_of, own_names, read_crc32_list
from modelctl.flows.stores import open_artifact
from modelctl.flows.workers import Workers
from modelctl.node.folder import UNFINISHED
from modelctl.packing.artifact import Layer
from modelctl.packing.crc32_list import CRC32_LIST, Crc32Line, render_crc32_list
from modelctl.packing.shards import SUFFIX, read_shard
from modelctl.sources import open_source


class FileResult(msgspec.Struct, kw_only=True):
    """What was found of one file; no problem is right.

    `crc32` is that of the bytes read, None when they were not. `code` is of the first error met in reading them.
    """

    path: str
    size: int
    crc32: str | None = None
    problems: list[str] = []
    code: str = ""


class VerifyReport(msgspec.Struct, kw_only=True):
    """What was found. `extra` are files of a folder that the artifact or list does not name."""

    subject: str
    against: str
    depth: Depth
    files: list[FileResult]
    extra: list[str] = []

    @property
    def bad(self) -> list[FileResult]:
        return [file for file in self.files if file.problems]

    def crc32_list(self) -> str:
        """Return the CRC-32s of the bytes that were read, as a crc32.txt."""
        return render_crc32_list(Crc32Line(file.path, int(file.crc32, 16)) for file in self.files if file.crc32)


def verify_artifact(
    reference: Reference, depth: Depth, jobs: int | None, progress: Progress, *, access: Access = DEFAULT
) -> VerifyReport:
    """Prove an artifact in a store: its documents, then its layers as deep as asked.

    Raises:
        Invalid, DigestMismatch, NotFound: The documents themselves are bad, so there is nothing to go by.
    """
    store, artifact = open_artifact(reference, access)
    workers = Workers(jobs, progress, remote=bool(reference.registry))
    workers.expect(len(artifact.table.rows), artifact.size if depth != "size" else 0)
    layers = workers.run(lambda layer: verify_layer(layer, store, depth, workers), artifact.layers)
    return VerifyReport(
        subject=f"{reference.store}@{artifact.root.digest}",
        against=artifact.root.digest,
        depth=depth,
        files=_by_path(file for layer in layers for file in layer),
    )


def verify_layer(layer: Layer, store: Store, depth: Depth, workers: Workers) -> list[FileResult]:
    """Prove the files of a layer in a store as deep as asked; what fails is a problem of theirs."""
    results = {row.path: FileResult(path=row.path, size=row.size, problems=[]) for row in layer.rows}
    with _noting(list(results.values())), closing(layer.open(store)) as blob:
        if depth == "size" and not store.has(layer.descriptor):
            raise NotFound(f"blob {layer.descriptor.digest}", why="missing")
        if depth == "crc":
            _check_crcs(layer, blob, results, workers)
        if depth == "full":
            _check_layer(layer, blob, store, results, workers)
    return list(results.values())


def verify_folder(
    folder: str, reference: Reference, depth: Depth, jobs: int | None, progress: Progress, *, access: Access = DEFAULT
) -> VerifyReport:
    """Prove the files of a folder against an artifact's table. A file that is missing is a problem."""
    _, artifact = open_artifact(reference, access)
    source, entries, extra = _present(folder, {row.path for row in artifact.table.rows})
    workers = Workers(jobs, progress)
    workers.expect(len(artifact.table.rows), artifact.size if depth != "size" else 0)

    def verify_file(row: FileRow) -> FileResult:
        result = FileResult(path=row.path, size=row.size, problems=[])
        with _noting([result]):
            entry = _expected(entries.get(row.path), row)
            if depth != "size":
                with closing(source.open(entry)) as blob, workers.part(row.path, row.size) as advance:
                    _check_file(row, blob, advance, result, full=depth == "full")
        return result

    files = _by_path(workers.run(verify_file, artifact.table.rows))
    return VerifyReport(subject=folder, against=artifact.root.digest, depth=depth, files=files, extra=extra)


def verify_crc32_list(folder: str, list_path: str, jobs: int | None, progress: Progress) -> VerifyReport:
    """Prove the files of a folder against a crc32.txt; `list_path` empty is the folder's own."""
    name = list_path or posixpath.join(folder, CRC32_LIST)
    sums = read_crc32_list(name, own_names(folder, name))
    source, entries, extra = _present(folder, set(sums))
    workers = Workers(jobs, progress)
    workers.expect(len(sums), sum(entry.size for entry in entries.values()))

    def verify_file(path: str) -> FileResult:
        entry = entries.get(path)
        result = FileResult(path=path, size=entry.size if entry else 0, problems=[])
        with _noting([result]):
            if not entry:
                raise NotFound(path, why="missing")
            found = crc32_of(source, entry, workers)
            result.crc32 = f"{found:08x}"
            if found != sums[path]:
                result.problems.append(f"CRC-32 is {found:08x}, the list says {sums[path]:08x}")
        return result

    files = _by_path(workers.run(verify_file, list(sums)))
    extra = [path for path in extra if path != CRC32_LIST]
    return VerifyReport(subject=folder, against=name, depth="crc", files=files, extra=extra)


def _by_path(files: Iterator[FileResult] | Sequence[FileResult]) -> list[FileResult]:
    return sorted(files, key=lambda file: file.path.encode())


@contextmanager
def _noting(results: Sequence[FileResult]) -> Iterator[None]:
    """Turn an error into a problem of these files, and go on with the others."""
    try:
        yield
    except ModelctlError as error:
        for result in results:
            result.problems.append(error.seen)
            result.code = result.code or error.code


def _present(folder: str, wanted: set[str]) -> tuple[Source, dict[str, Entry], list[str]]:
    """List a folder: the entries that are wanted, and the paths of the others."""
    source = open_source(folder)
    extra: list[str] = []

    def is_wanted(path: str) -> bool:
        if path not in wanted and not path.startswith(UNFINISHED):
            extra.append(path)
        return path in wanted

    return source, {entry.path: entry for entry in source.list(is_wanted)}, sorted(extra)


def _check_crcs(layer: Layer, blob: Blob, results: dict[str, FileResult], workers: Workers) -> None:
    for row in layer.rows:
        with _noting([results[row.path]]), workers.part(row.path, row.size) as advance:
            crcs = Crcs()
            feed(blob, row.offset, row.size, [crcs.update], advance)
            _compare_crcs(row, crcs, results[row.path])


def _check_layer(layer: Layer, blob: Blob, store: Store, results: dict[str, FileResult], workers: Workers) -> None:
    """Read a layer once for everything: its digest, its headers, and each file's chunks and CRCs."""
    sha = hashlib.sha256()
    rows = iter(layer.rows)
    for piece in layer.pieces():
        row = next(rows, None)
        with _noting([results[row.path]] if row else list(results.values())):
            layer.check_head(blob, piece)
        sha.update(piece.head)
        if row:
            crcs, chunks = Crcs(), ChunkHashes()
            with workers.part(row.path, row.size) as advance:
                feed(blob, row.offset, row.size, [sha.update, crcs.update, chunks.update], advance)
            _compare_crcs(row, crcs, results[row.path])
            _compare_chunks(row, chunks.finish(), results[row.path])
            with _noting([results[row.path]]):
                _check_shard(blob, row, row.offset)
    found = f"sha256:{sha.hexdigest()}"
    if found != layer.digest:
        for result in results.values():
            result.problems.append(f"layer {layer.index + 1} hashes to {found}, expected {layer.digest}")
    if layer.gzipped:
        with _noting(list(results.values())):
            _check_compressed(layer, store, workers)


def _check_compressed(layer: Layer, store: Store, workers: Workers) -> None:
    sha = hashlib.sha256()
    with closing(store.open(layer.descriptor)) as blob, workers.part(layer.descriptor.digest, blob.size) as advance:
        feed(blob, 0, blob.size, [sha.update], advance)
    if sha.hexdigest() != layer.descriptor.digest.removeprefix("sha256:"):
        raise ChecksumMismatch(
            f"layer {layer.index + 1}", why=f"hashes to sha256:{sha.hexdigest()}, expected {layer.descriptor.digest}"
        )


def _expected(entry: Entry | None, row: FileRow) -> Entry:
    if not entry:
        raise NotFound(row.path, why="missing")
    if entry.size != row.size:
        raise ChecksumMismatch(row.path, why=f"it has {entry.size} bytes, expected {row.size}")
    return entry


def _check_file(row: FileRow, blob: Blob, advance: Callable[[int], None], result: FileResult, *, full: bool) -> None:
    crcs, chunks = Crcs(), ChunkHashes()
    feed(blob, 0, row.size, [crcs.update, chunks.update] if full else [crcs.update], advance)
    _compare_crcs(row, crcs, result)
    if full:
        _compare_chunks(row, chunks.finish(), result)
        _check_shard(blob, row, 0)


def _compare_crcs(row: FileRow, crcs: Crcs, result: FileResult) -> None:
    result.crc32 = f"{crcs.crc32:08x}"
    if (crcs.crc32, crcs.crc64) != (row.crc32, row.crc64):
        result.problems.append(
            f"CRC-32 is {crcs.crc32:08x}, expected {row.crc32:08x}; CRC-64 is {crcs.crc64}, expected {row.crc64}"
        )


def _compare_chunks(row: FileRow, found: bytes, result: FileResult) -> None:
    for chunk in range(len(row.chunks) // HASH_SIZE):
        place = slice(chunk * HASH_SIZE, (chunk + 1) * HASH_SIZE)
        if found[place] != row.chunks[place]:
            end = min((chunk + 1) * CHUNK, row.size)
            result.problems.append(f"chunk {chunk} (bytes {chunk * CHUNK}-{end - 1}) has other bytes")


def _check_shard(blob: Blob, row: FileRow, offset: int) -> None:
    if row.path.endswith(SUFFIX):
        read_shard(blob, row.path, row.size, offset)
