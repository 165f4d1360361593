"""Read an artifact's documents back, and refuse one whose parts contradict each other.

After `load_artifact` every file is known to lie in a layer of the manifest, at the place and of the size that the
layer's form demands; nothing is known yet of the bytes, which `FileRow.chunks` proves.
"""

from __future__ import annotations

import zlib
from collections.abc import Iterator, Sequence
from contextlib import closing
from dataclasses import dataclass

import msgspec

from modelctl.core import media_types
from modelctl.core.errors import DigestMismatch, Invalid
from modelctl.core.learned import learned
from modelctl.core.protocols import Blob, Fetcher
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest, FileRow, Form, Manifest, digest_of, parse_digest
from modelctl.packing.form import Member, Piece, frame
from modelctl.packing.inflate import InflatedBlob
from modelctl.packing.table import MAX_TABLE_SIZE, Table, parse_table

_NOT_OURS = "not an artifact that modelctl packed"
_FOREIGN = "pack the model with modelctl; what other tools packed has no table to prove it by"


@dataclass(frozen=True)
class Layer:
    """A layer of files: its descriptor, what it decompresses to, and the rows of its files in blob order."""

    index: int
    descriptor: Descriptor
    digest: Digest
    size: int
    form: Form
    prefix: str
    rows: tuple[FileRow, ...]

    @property
    def gzipped(self) -> bool:
        return self.digest != self.descriptor.digest

    @property
    def members(self) -> list[Member]:
        return [Member(self.prefix + row.path, row.size) for row in self.rows]

    def pieces(self) -> Iterator[Piece]:
        return frame(self.form, self.members)

    def check_head(self, blob: Blob, piece: Piece) -> None:
        """Read the bytes before a file (or after the last) and demand that they are what the form makes them.

        So what a runtime mounts has the names and sizes that the table states, and nothing else.

        Raises:
            DigestMismatch: A header says otherwise.
        """
        found = bytearray(len(piece.head))
        blob.read_into(piece.offset - len(found), memoryview(found))
        if found != piece.head:
            raise DigestMismatch(
                f"layer {self.index + 1}, {self.descriptor.digest}",
                why=f"the tar headers before byte {piece.offset} are not those of "
                + (f"{piece.member.path!r}, {piece.member.size} bytes" if piece.member else "the end of the archive"),
            )

    def open(self, fetcher: Fetcher) -> Blob:
        """Open the layer's uncompressed bytes, `size` of them."""
        blob = fetcher.open(self.descriptor)
        return InflatedBlob(blob, self.size, f"layer {self.descriptor.digest}") if self.gzipped else blob


@dataclass(frozen=True)
class Artifact:
    """An artifact in a store, its documents read and checked.

    `root` describes the manifest, `table_descriptor` the table's layer; `table_digest` is of that uncompressed, as
    mounts have it.
    """

    root: Descriptor
    manifest: Manifest
    table: Table
    table_descriptor: Descriptor
    table_digest: Digest
    layers: tuple[Layer, ...]

    @property
    def size(self) -> int:
        """Size of all files [bytes]."""
        return sum(row.size for row in self.table.rows)

    @property
    def weights(self) -> Digest:
        """Digest of the set of weight layers: equal in versions that differ in nothing else.

        Of all layers of files where none says what it holds.
        """
        named = [layer for layer in self.layers if layer.descriptor.annotations.get(media_types.KIND) == "weight"]
        return digest_of("\n".join(sorted({layer.digest for layer in named or self.layers})).encode())

    @property
    def why_not_mountable(self) -> str:
        """Why a kubelet would not show the files in an image volume, or nothing when it does.

        Source: containerd 2.3.7 mounts an image config with tar layers; of a ModelPack it makes an empty folder.
        """
        if self.manifest.config.media_type != media_types.OCI_CONFIG:
            return (
                f"its config is {self.manifest.config.media_type}: containerd shows an empty folder, without an error"
            )
        for layer in self.manifest.layers:
            if layer.media_type.removesuffix("+gzip") != media_types.OCI_LAYER:
                return f"its layer {layer.digest} is {layer.media_type}, which a kubelet does not mount"
        return ""


class _RootFs(msgspec.Struct):
    diff_ids: tuple[str, ...] = ()


class _ModelFs(msgspec.Struct, rename="camel"):
    diff_ids: tuple[str, ...] = ()


class _Config(msgspec.Struct):
    rootfs: _RootFs | None = None
    modelfs: _ModelFs | None = None


def load_artifact(fetcher: Fetcher, root: Descriptor) -> Artifact:
    """Read and check the manifest `root`, its config and its table.

    Raises:
        DigestMismatch: A document does not have the digest it is named by.
        Invalid: Not an artifact that modelctl packed, or one that contradicts itself.
    """
    if root.media_type == media_types.OCI_INDEX:
        raise Invalid(
            f"{root.digest} is an index",
            why="a model is one manifest",
            hint="name one of its manifests by digest",
        )
    manifest = parse_manifest(read_document(fetcher, root, MAX_DOCUMENT_SIZE))
    diff_ids = _diff_ids(read_document(fetcher, manifest.config, MAX_DOCUMENT_SIZE), manifest)
    index = _table_index(manifest)
    table = _load_table(fetcher, manifest.layers[index], diff_ids[index])
    layers = tuple(_layers(manifest, diff_ids, table, index))
    return Artifact(root, manifest, table, manifest.layers[index], diff_ids[index], layers)


def read_document(fetcher: Fetcher, descriptor: Descriptor, limit: int) -> bytes:
    """Read a whole small blob and check its digest.

    Raises:
        Invalid: It is larger than `limit` [bytes]. DigestMismatch: Its bytes hash to something else.
    """
    if descriptor.size > limit:
        raise Invalid(
            f"{descriptor.media_type} {descriptor.digest}",
            why=f"it has {descriptor.size} bytes; at most {limit} are read",
        )
    data = bytearray(descriptor.size)
    with closing(fetcher.open(descriptor)) as blob:
        blob.read_into(0, memoryview(data))
    found = digest_of(data)
    if found != descriptor.digest:
        raise DigestMismatch(
            f"{descriptor.media_type} {descriptor.digest}", why=f"its {len(data)} bytes hash to {found}"
        )
    return bytes(data)


def parse_manifest(raw: bytes) -> Manifest:
    """Parse and check a manifest. Pure.

    Raises:
        Invalid: Not an OCI image manifest, or a descriptor with a malformed digest or a negative size.
    """
    try:
        manifest = msgspec.json.decode(raw, type=learned(Manifest))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid("manifest", why=str(error)) from error
    if manifest.schema_version != 2 or manifest.media_type != media_types.OCI_MANIFEST:
        raise Invalid(
            "manifest",
            why=f"it is {manifest.media_type!r}, version {manifest.schema_version}; "
            f"expected {media_types.OCI_MANIFEST!r}, version 2",
        )
    for descriptor in (manifest.config, *manifest.layers):
        parse_digest(descriptor.digest)
        if descriptor.size < 0:
            raise Invalid(f"manifest, descriptor {descriptor.digest}", why=f"its size is {descriptor.size}")
    return manifest


def _diff_ids(config: bytes, manifest: Manifest) -> list[Digest]:
    try:
        parsed = msgspec.json.decode(config, type=learned(_Config))
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise Invalid(f"config {manifest.config.digest}", why=str(error)) from error
    listed = parsed.rootfs or parsed.modelfs or _RootFs()
    if len(listed.diff_ids) != len(manifest.layers):
        raise Invalid(
            f"config {manifest.config.digest}",
            why=f"it has {len(listed.diff_ids)} diff_ids; the manifest has {len(manifest.layers)} layers",
            hint=_FOREIGN,
        )
    return [parse_digest(text) for text in listed.diff_ids]


def _table_index(manifest: Manifest) -> int:
    """Return which layer is marked as the table; the last when a tool that recompressed the layers dropped the marks.

    Source: containers/image makes new layer descriptors without annotations when it compresses (skopeo 1.9).
    """
    kinds = [layer.annotations.get(media_types.KIND) for layer in manifest.layers]
    if kinds and not any(kinds):
        return len(kinds) - 1
    if kinds.count(media_types.TABLE_KIND) != 1:
        raise Invalid(
            _NOT_OURS,
            why=f"{kinds.count(media_types.TABLE_KIND)} of its {len(kinds)} layers are marked "
            f"{media_types.KIND}=table; expected 1",
            hint=_FOREIGN,
        )
    return kinds.index(media_types.TABLE_KIND)


def _load_table(fetcher: Fetcher, descriptor: Descriptor, diff_id: Digest) -> Table:
    try:
        return parse_table(_read_table(fetcher, descriptor, diff_id))
    except Invalid as error:
        if media_types.KIND in descriptor.annotations:
            raise
        raise Invalid(
            _NOT_OURS,
            why=f"no layer is marked {media_types.KIND}=table, and the last is not one: {error.what}: {error.why}",
            hint=_FOREIGN,
        ) from error


def _read_table(fetcher: Fetcher, descriptor: Descriptor, diff_id: Digest) -> bytes:
    blob = read_document(fetcher, descriptor, MAX_TABLE_SIZE)
    if _gzipped(descriptor):
        inflater = zlib.decompressobj(wbits=31)
        try:
            blob = inflater.decompress(blob, MAX_TABLE_SIZE)
        except zlib.error as error:
            raise Invalid(f"table {descriptor.digest}", why=f"not gzip: {error}") from error
        if not inflater.eof:
            raise Invalid(f"table {descriptor.digest}", why="it is cut short, or too large")
    if digest_of(blob) != diff_id:
        raise DigestMismatch(f"table {descriptor.digest}", why=f"its diff_id in the config is {diff_id}")
    return blob


def _gzipped(descriptor: Descriptor) -> bool:
    return descriptor.media_type.endswith("+gzip")


def _layers(manifest: Manifest, diff_ids: Sequence[Digest], table: Table, table_index: int) -> Iterator[Layer]:
    rows_of: dict[Digest, list[FileRow]] = {}
    for row in table.rows:
        rows_of.setdefault(row.layer, []).append(row)
    listed: dict[Digest, tuple[Digest, str]] = {}
    for index, (descriptor, diff_id) in enumerate(zip(manifest.layers, diff_ids, strict=True)):
        if index == table_index:
            continue
        if not _gzipped(descriptor) and diff_id != descriptor.digest:
            raise Invalid(f"layer {index + 1}, {descriptor.digest}", why=f"the config's diff_id for it is {diff_id}")
        if diff_id not in rows_of:
            raise Invalid(
                f"layer {index + 1}, {descriptor.digest}",
                why="it holds files that the artifact's table does not list",
            )
        blob = (descriptor.digest, descriptor.media_type)
        if diff_id not in listed:
            yield from _layer(index, descriptor, diff_id, table.prefix, rows_of[diff_id])
        if listed.setdefault(diff_id, blob) != blob:
            raise Invalid(
                f"layer {index + 1}, {descriptor.digest}",
                why=f"its diff_id is also that of {listed[diff_id][0]}, another blob",
            )
    missing = [row.path for row in table.rows if row.layer not in listed]
    if missing:
        raise Invalid(f"{missing[0]}: not in the artifact", why="its layer in the table is not in the manifest")


def _layer(index: int, descriptor: Descriptor, digest: Digest, prefix: str, rows: Sequence[FileRow]) -> Iterator[Layer]:
    """Build a layer of its rows: of several when it is a tar; one for each when it is raw, and files are equal."""
    suffix = descriptor.media_type.removesuffix("+gzip").rpartition(".")[2]
    if suffix not in ("raw", "tar"):
        raise Invalid(f"layer {index + 1}, {descriptor.digest}", why=f"media type {descriptor.media_type!r} is unknown")
    form: Form = "raw" if suffix == "raw" else "tar"
    groups = [[row] for row in rows] if form == "raw" else [sorted(rows, key=lambda row: row.offset)]
    for group in groups:
        layer = Layer(index, descriptor, digest, 0, form, prefix, tuple(group))
        *files, end = layer.pieces()
        offsets = [piece.offset for piece in files]
        size = end.offset if _gzipped(descriptor) else descriptor.size
        if offsets != [row.offset for row in group] or size != end.offset:
            raise Invalid(
                f"layer {index + 1}, {descriptor.digest}, with {group[0].path}",
                why=f"files at {[row.offset for row in group][:4]} of {size} bytes; the form puts them at "
                f"{offsets[:4]} of {end.offset}",
            )
        yield Layer(index, descriptor, digest, size, form, prefix, tuple(group))
