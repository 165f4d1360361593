"""Compare an artifact with another one, or with a source, by what is stated of the files; no tensor is read.

Between two artifacts the tables tell files and, 8 MiB at a time, their parts; what lies in a part of a shard its header
tells. Of a source only sizes, checksums that it states, small files and headers are asked for.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import closing
from dataclasses import dataclass
from functools import partial
from typing import Literal, get_args

import msgspec

from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess
from modelctl.core.chunks import CHUNK, HASH_SIZE, ChunkHashes
from modelctl.core.learned import learned
from modelctl.core.media_types import IN_TOTO
from modelctl.core.paths import matches
from modelctl.core.progress import Progress
from modelctl.core.protocols import Source, Store
from modelctl.core.reference import Reference
from modelctl.core.types import Descriptor, Entry, FileRow, Shard, Tensor
from modelctl.flows.attached import blobs_of, load_provenances, read_attached
from modelctl.flows.inspect import TensorReport
from modelctl.flows.stores import open_artifact
from modelctl.flows.workers import Workers
from modelctl.packing.artifact import Artifact, Layer, parse_manifest
from modelctl.packing.layout import load_layout
from modelctl.packing.preflight import own_crc32s, read_small
from modelctl.packing.shards import SUFFIX, read_shard
from modelctl.sources import open_source

Change = Literal["changed", "added", "removed", "moved", "same", "unknown"]
"""What became of a file; unknown: nothing that was compared differs, and its content was not."""

CHANGES = get_args(Change)

By = Literal["", "chunks", "size", "sha256", "git-sha1", "crc64", "crc32.txt", "content", "header"]
"""What told so."""

TensorChange = Literal["added", "removed", "retyped", "reshaped", "changed", "touched", "shifted"]
"""What became of a tensor.

touched: it lies in a chunk that differs, by its bytes or its neighbours'. shifted: it starts at another place in the
file, where chunks cannot be compared.
"""

SMALL = 1 << 20
"""A file of a source up to this size, and no shard, is read to compare it [bytes]."""


class TensorDiff(msgspec.Struct, kw_only=True):
    """A tensor that differs, or may; `old` and `new` are None where it is not there."""

    name: str
    change: TensorChange
    old: TensorReport | None
    new: TensorReport | None


class FileDiff(msgspec.Struct, kw_only=True):
    """One file. `old_path` is another one only when it moved; sizes are None where it is not there.

    `changed_size` is how many bytes of it lie in chunks that differ [bytes]; None when that is not known, as `tensors`
    is but for a changed shard.
    """

    path: str
    old_path: str
    change: Change
    by: By
    old_size: int | None
    new_size: int | None
    changed_size: int | None = None
    tensors: list[TensorDiff] | None = None


class DiffReport(msgspec.Struct, kw_only=True):
    """All files of both sides, by path; `differs` says whether a difference was found.

    `send_size` is what a push of the new artifact, and of what is attached to it, sends to where the old one is
    [bytes]; `send_layers` are the artifact's layers among that. Both are None when the new side is a source.
    """

    old: str
    new: str
    differs: bool
    files: list[FileDiff]
    send_layers: int | None = None
    send_size: int | None = None


def diff_artifacts(old: Reference, new: Reference, jobs: int | None = None, *, access: Access = DEFAULT) -> DiffReport:
    """Compare two artifacts by their tables, and changed shards by their headers.

    Raises:
        NotFound, Invalid, DigestMismatch: As `load_artifact`; a shard's header is judged as it is read.
    """
    before, after = _Packed.open(old, access), _Packed.open(new, access)
    workers = Workers(jobs, Progress(), remote=bool(old.registry or new.registry))
    moved = _moved(before.rows, after.rows)

    def compare(path: str) -> FileDiff:
        a, b = before.rows.get(moved.get(path, path)), after.rows.get(path)
        if not a or not b:
            return _one_sided(path, a, b)
        if (a.size, a.chunks) == (b.size, b.chunks):
            return _both(a, b.path, b.size, "moved" if path in moved else "same", "chunks")
        compared = _both(a, b.path, b.size, "changed", "chunks")
        compared.changed_size = _changed_size(a, b)
        if path.endswith(SUFFIX):
            shards = before.shard(path), after.shard(path)
            compared.tensors = list(_tensors(*shards, lambda s, t: _by_chunks(a, b, s, t)))
        return compared

    paths = _by_path((before.rows.keys() | after.rows.keys()) - set(moved.values()))
    there = {blob.digest for blob in before.blobs()}
    lacking = {blob.digest: blob.size for blob in after.blobs() if blob.digest not in there}
    files = list(workers.run(compare, paths))
    return DiffReport(
        old=before.name,
        new=after.name,
        differs=_differ(files),
        files=files,
        send_layers=len(lacking.keys() & {layer.digest for layer in after.artifact.manifest.layers}),
        send_size=sum(lacking.values()),
    )


def diff_source(
    old: Reference,
    url: str,
    jobs: int | None = None,
    *,
    access: Access = DEFAULT,
    source_access: SourceAccess = DEFAULT_SOURCE_ACCESS,
) -> DiffReport:
    """Compare an artifact with what packing `url` would read.

    Raises:
        UsageProblem, NotFound, Denied: There is no such source. Else as `diff_with`.
    """
    return diff_with(old, open_source(url, source_access), jobs, access=access)


def diff_with(
    old: Reference,
    source: Source,
    jobs: int | None = None,
    *,
    access: Access = DEFAULT,
) -> DiffReport:
    """Compare an artifact with a source.

    A file is the same when its size is, and what the source states of its content: it is compared with the table, or
    with what the artifact's source stated (its provenance, which anybody who may push can attach). A small file is read
    where that does not tell. Of a shard the header is compared then, and whether its tensors are the same is unknown.

    Args:
        old: The artifact.
        source: Files that a layout leaves out are left out here, unless the artifact has them.
        jobs: How many files to ask for at once.
        access: How to reach a registry.

    Raises:
        NotFound, Invalid, DigestMismatch: As `load_artifact`; headers, also the source's, are judged as they are read.
        ChecksumMismatch: A file changed since it was listed.
    """
    packed = _Packed.open(old, access)
    left_out = load_layout("image").exclude
    entries = {
        entry.path: entry for entry in source.list(lambda path: path in packed.rows or not matches(path, left_out))
    }
    against = _Against(packed, source, packed.stated(), own_crc32s(list(entries.values()), partial(read_small, source)))

    def compare(path: str) -> FileDiff:
        row, entry = packed.rows.get(path), entries.get(path)
        return against.compare(row, entry) if row and entry else _one_sided(path, row, entry)

    workers = Workers(jobs, Progress(), remote=True)
    files = list(workers.run(compare, _by_path(packed.rows.keys() | entries.keys())))
    return DiffReport(old=packed.name, new=source.origin.url, differs=_differ(files), files=files)


def _differ(files: Sequence[FileDiff]) -> bool:
    return any(file.change not in ("same", "unknown") for file in files)


def _by_path(paths: set[str]) -> list[str]:
    return sorted(paths, key=lambda path: path.encode(errors="surrogateescape"))


@dataclass(frozen=True)
class _Packed:
    """An artifact in its store: each file's row and layer by path."""

    name: str
    store: Store
    artifact: Artifact
    rows: Mapping[str, FileRow]
    layers: Mapping[str, Layer]

    @classmethod
    def open(cls, reference: Reference, access: Access) -> _Packed:
        store, artifact = open_artifact(reference, access)
        return cls(
            f"{reference.store}@{artifact.root.digest}",
            store,
            artifact,
            {row.path: row for row in artifact.table.rows},
            {row.path: layer for layer in artifact.layers for row in layer.rows},
        )

    def blobs(self) -> list[Descriptor]:
        """Return what a push sends: the blobs of the artifact, and of what is attached to it."""
        attached = [parse_manifest(raw) for _, raw in read_attached(self.store, self.artifact.root.digest).manifests]
        return blobs_of([self.artifact.manifest, *attached])

    def shard(self, path: str) -> Shard:
        """Read the header of a shard."""
        row = self.rows[path]
        with closing(self.layers[path].open(self.store)) as blob:
            return read_shard(blob, path, row.size, row.offset)

    def stated(self) -> dict[str, Entry]:
        """Return what its provenance says that its source stated of its files, by path."""
        root = self.artifact.root.digest
        made = load_provenances(self.store, root, self.store.referrers(root, IN_TOTO))
        return {entry.path: entry for provenance in made.values() for entry in provenance.files}

    def sha256(self, path: str) -> str:
        """Return a file's sha256, where it is known: of a raw layer it is the digest. Else nothing."""
        layer = self.layers[path]
        return layer.digest.removeprefix("sha256:") if layer.form == "raw" else ""


@dataclass(frozen=True)
class _Against:
    """A source that `packed` is compared with. By path what is `known` of that, and the source's crc32.txt."""

    packed: _Packed
    source: Source
    known: Mapping[str, Entry]
    crc32s: Mapping[str, int]

    def compare(self, row: FileRow, entry: Entry) -> FileDiff:
        """Compare a file that is on both sides; the header of a shard unless all of it is known to be the same."""
        same, by = self._judge(row, entry)
        tensors = None
        if not same and entry.path.endswith(SUFFIX):
            shards = self.packed.shard(row.path), self._shard(entry)
            tensors = list(_tensors(*shards))
            if same is None:
                same, by = None if shards[0] == shards[1] else False, "header"
        compared = _both(row, entry.path, entry.size, _CHANGE[same], by)
        compared.tensors = tensors if same is False else None
        return compared

    def _judge(self, row: FileRow, entry: Entry) -> tuple[bool | None, By]:
        """Say whether a file is the same and what tells so, the strongest that is to be had; None: nothing does."""
        if entry.size != row.size:
            return False, "size"
        stated = self.source.check(entry)
        known = self.known.get(row.path, Entry(path=row.path, size=row.size))
        pairs: tuple[tuple[By, object, object], ...] = (
            ("sha256", stated.sha256, self.packed.sha256(row.path) or known.sha256),
            ("crc64", stated.crc64, row.crc64),
            ("git-sha1", stated.git_sha1, known.git_sha1),
        )
        for by, here, there in pairs:
            if here not in ("", None) and there != "":
                return here == there, by
        if not entry.path.endswith(SUFFIX) and entry.size <= SMALL:
            return self._chunks(entry) == row.chunks, "content"
        if entry.path in self.crc32s:
            return self.crc32s[entry.path] == row.crc32, "crc32.txt"
        return None, "size"

    def _chunks(self, entry: Entry) -> bytes:
        hashes = ChunkHashes()
        hashes.update(memoryview(read_small(self.source, entry, SMALL)))
        return hashes.finish()

    def _shard(self, entry: Entry) -> Shard:
        with closing(self.source.open(entry)) as blob:
            return read_shard(blob, entry.path, entry.size)


_CHANGE: Mapping[bool | None, Change] = {True: "same", False: "changed", None: "unknown"}


def _one_sided(path: str, old: FileRow | None, new: FileRow | Entry | None) -> FileDiff:
    return FileDiff(
        path=path,
        old_path=path,
        change="removed" if old else "added",
        by="",
        old_size=old.size if old else None,
        new_size=new.size if new else None,
    )


def _both(row: FileRow, path: str, size: int, change: Change, by: By) -> FileDiff:
    return FileDiff(path=path, old_path=row.path, change=change, by=by, old_size=row.size, new_size=size)


def _moved(old: Mapping[str, FileRow], new: Mapping[str, FileRow]) -> dict[str, str]:
    """Pair files that are gone with equal ones that came, {new path: old path}. Empty files are not followed."""
    gone: dict[tuple[int, bytes], list[str]] = {}
    for path in sorted(old.keys() - new.keys(), reverse=True):
        gone.setdefault((old[path].size, old[path].chunks), []).append(path)
    moved = {}
    for path in sorted(new.keys() - old.keys()):
        same = gone.get((new[path].size, new[path].chunks))
        if same and new[path].size:
            moved[path] = same.pop()
    return moved


def _chunk(row: FileRow, number: int) -> bytes:
    """Return the hash of a chunk of a file; nothing where it has none."""
    return row.chunks[number * HASH_SIZE : (number + 1) * HASH_SIZE] if number >= 0 else b""


def _changed_size(old: FileRow, new: FileRow) -> int:
    """Return how many bytes of `new` lie in chunks that `old` has not at the same place."""
    starts = range(0, new.size, CHUNK)
    return sum(
        min(CHUNK, new.size - start)
        for number, start in enumerate(starts)
        if _chunk(old, number) != _chunk(new, number)
    )


def _tensors(
    old: Shard, new: Shard, by_content: Callable[[Tensor, Tensor], TensorChange | None] | None = None
) -> Iterator[TensorDiff]:
    """Yield what differs by the headers, or else by what `by_content` says of a tensor's old and new place."""
    before = {tensor.name: tensor for tensor in old.tensors}
    after = {tensor.name: tensor for tensor in new.tensors}
    for name in [*after, *(name for name in before if name not in after)]:
        a, b = before.get(name), after.get(name)
        change = _tensor(a, b) or (by_content(a, b) if by_content and a and b else None)
        if change:
            yield TensorDiff(name=name, change=change, old=_reported(a), new=_reported(b))


def _tensor(old: Tensor | None, new: Tensor | None) -> TensorChange | None:
    """Compare what headers say of a tensor, but for its place."""
    if not old or not new:
        return "removed" if old else "added"
    if old.dtype != new.dtype:
        return "retyped"
    return "reshaped" if old.shape != new.shape else None


def _by_chunks(a: FileRow, b: FileRow, old: Tensor, new: Tensor) -> TensorChange | None:
    """Compare the chunks that a tensor of one dtype and shape lies in; a chunk that is all its own tells for sure."""
    shift = new.offset - old.offset
    if shift % CHUNK and new.size:
        return "shifted"
    touched: TensorChange | None = None
    for number in range(new.offset // CHUNK, -(-(new.offset + new.size) // CHUNK) if new.size else 0):
        if _chunk(b, number) != _chunk(a, number - shift // CHUNK):
            touched = "touched"
            if new.offset <= number * CHUNK and (number + 1) * CHUNK <= new.offset + new.size:
                return "changed"
    return touched


def _reported(tensor: Tensor | None) -> TensorReport | None:
    return msgspec.convert(msgspec.to_builtins(tensor), learned(TensorReport)) if tensor else None
