"""Describe an artifact from its documents, and what is attached to it.

Of its layers only the safetensors headers are read, when asked.
"""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import closing

import msgspec

from modelctl.core import media_types
from modelctl.core.access import DEFAULT, Access
from modelctl.core.learned import learned
from modelctl.core.protocols import Store
from modelctl.core.reference import Reference
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest
from modelctl.flows.attached import load_provenances
from modelctl.flows.stores import open_artifact, open_store
from modelctl.packing.artifact import Artifact, Layer, read_document
from modelctl.packing.shards import SUFFIX, read_shard


class TensorReport(msgspec.Struct, kw_only=True):
    """One tensor. `offset` counts from the file's first byte [bytes]."""

    name: str
    dtype: str
    shape: list[int]
    offset: int
    size: int


class FileReport(msgspec.Struct, kw_only=True):
    """One file: where it lies and what it must be. `tensors` is None unless they were asked for and it is a shard."""

    path: str
    size: int
    offset: int
    crc32: str
    crc64: str
    tensors: list[TensorReport] | None = None


class LayerReport(msgspec.Struct, kw_only=True):
    digest: str
    size: int
    media_type: str
    kind: str
    files: list[FileReport]


class AttachedReport(msgspec.Struct, kw_only=True):
    """A manifest that names the artifact as its subject; `size` is its own [bytes].

    `source`, `revision` and `version` (of modelctl) are told of provenance that modelctl wrote, else empty.
    """

    artifact_type: str
    digest: str
    size: int
    source: str = ""
    revision: str = ""
    version: str = ""


class InspectReport(msgspec.Struct, kw_only=True):
    """An artifact. `size` counts the files' bytes."""

    reference: str
    digest: str
    artifact_type: str
    config_media_type: str
    subject: str | None
    annotations: Mapping[str, str]
    prefix: str
    files: int
    size: int
    layers: list[LayerReport]
    attached: list[AttachedReport]


def inspect(reference: Reference, *, tensors: bool, access: Access = DEFAULT) -> InspectReport:
    """Describe the artifact; with `tensors`, read the header of every shard by range.

    Raises:
        NotFound, Invalid, DigestMismatch: As `load_artifact`; a shard's header is judged as it is read.
    """
    store, artifact = open_artifact(reference, access)
    manifest = artifact.manifest

    def describe(layer: Layer) -> LayerReport:
        files = [
            FileReport(
                path=row.path,
                size=row.size,
                offset=row.offset,
                crc32=f"{row.crc32:08x}",
                crc64=str(row.crc64),
            )
            for row in layer.rows
        ]
        shards = [file for file in files if file.path.endswith(SUFFIX) and tensors]
        if shards:
            with closing(layer.open(store)) as blob:
                for file in shards:
                    shard = read_shard(blob, file.path, file.size, file.offset)
                    file.tensors = [
                        msgspec.convert(msgspec.to_builtins(t), learned(TensorReport)) for t in shard.tensors
                    ]
        return LayerReport(
            digest=layer.descriptor.digest,
            size=layer.descriptor.size,
            media_type=layer.descriptor.media_type,
            kind=layer.descriptor.annotations.get(media_types.KIND, ""),
            files=files,
        )

    return InspectReport(
        reference=f"{reference.store}@{artifact.root.digest}",
        digest=artifact.root.digest,
        artifact_type=manifest.artifact_type,
        config_media_type=manifest.config.media_type,
        subject=manifest.subject.digest if manifest.subject else None,
        annotations=manifest.annotations,
        prefix=artifact.table.prefix,
        files=len(artifact.table.rows),
        size=artifact.size,
        layers=[*map(describe, artifact.layers), _table_report(artifact)],
        attached=_attached(store, artifact.root.digest),
    )


def _attached(store: Store, subject: Digest) -> list[AttachedReport]:
    attached = store.referrers(subject)
    made = load_provenances(store, subject, attached)
    return [
        AttachedReport(
            artifact_type=item.artifact_type,
            digest=item.digest,
            size=item.size,
            source=made[item.digest].origin.url if item.digest in made else "",
            revision=made[item.digest].origin.revision if item.digest in made else "",
            version=made[item.digest].version if item.digest in made else "",
        )
        for item in attached
    ]


def _table_report(artifact: Artifact) -> LayerReport:
    table: Descriptor = artifact.table_descriptor
    return LayerReport(
        digest=table.digest,
        size=table.size,
        media_type=table.media_type,
        kind=media_types.TABLE_KIND,
        files=[],
    )


def read_manifest(reference: Reference, access: Access = DEFAULT) -> bytes:
    """Return the manifest to the byte, whoever wrote it; its digest is checked."""
    store = open_store(reference, access)
    return read_document(store, store.resolve(reference.name), MAX_DOCUMENT_SIZE)
