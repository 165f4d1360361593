"""The nouns. Frozen, comparable, no I/O."""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Mapping
from typing import Annotated, Literal, NewType

import msgspec

from modelctl.core.errors import Invalid
from modelctl.core.media_types import OCI_MANIFEST

Bytes = bytes | bytearray | memoryview
"""Bytes in memory, of whatever kind."""

Kind = Literal["weight", "config", "code", "doc"]
"""What a file is to a model; it decides the media type of its layer."""

Form = Literal["raw", "tar"]
"""How files become layer bytes: one file as it is, or files in a tar."""

Digest = NewType("Digest", str)
"""`sha256:<64 hex>`, always lower case. Build one with `parse_digest` or `digest_of`."""

MAX_DOCUMENT_SIZE = 4 << 20
"""Largest manifest or config [bytes]: what registries take (distribution-spec, "Pushing Manifests")."""

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")


def parse_digest(text: str) -> Digest:
    """Check `text` and return it as a `Digest`.

    Raises:
        Invalid: It is not one. Source: OCI image-spec descriptor.md, "Digests"; sha256 only.
    """
    if not is_digest(text):
        raise Invalid(f"not a digest: {text[:100]!r}", why="expected sha256:<64 lower-case hex digits>")
    return Digest(text)


def is_digest(text: str) -> bool:
    return bool(_DIGEST.fullmatch(text))


def digest_of(data: Bytes) -> Digest:
    return Digest("sha256:" + hashlib.sha256(data).hexdigest())


def canonical_json(document: object) -> bytes:
    """Encode `document` so that equal documents are equal bytes: sorted keys, no spaces, UTF-8."""
    return json.dumps(document, sort_keys=True, separators=(",", ":"), ensure_ascii=False).encode()


class Descriptor(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """What a blob is, without its bytes. Source: OCI image-spec descriptor.md."""

    media_type: str
    digest: Digest
    size: Annotated[int, msgspec.Meta(ge=0)]
    annotations: Mapping[str, str] = {}
    artifact_type: str = ""


class Manifest(msgspec.Struct, frozen=True, rename="camel", omit_defaults=True, kw_only=True):
    """An artifact's table of contents. Source: OCI image-spec manifest.md."""

    schema_version: int
    media_type: str = OCI_MANIFEST
    artifact_type: str = ""
    config: Descriptor
    layers: tuple[Descriptor, ...]
    subject: Descriptor | None = None
    annotations: Mapping[str, str] = {}


class Entry(msgspec.Struct, frozen=True, kw_only=True):
    """One file at a source.

    `version` is what the source says of this state of the file, in the source's own terms: two reads under one
    version are two reads of the same bytes. The rest is what the source states of the file's content, where it does:
    CRC-64/XZ, sha256 (64 hex digits), and the id that git gives a blob (40 hex digits).
    """

    path: str
    size: int
    version: str = ""
    crc64: int | None = None
    sha256: str = ""
    git_sha1: str = ""


class Origin(msgspec.Struct, frozen=True, kw_only=True):
    """What a source read, for the provenance: its URL without secrets, and what its revision was resolved to."""

    url: str
    revision: str = ""


class Tensor(msgspec.Struct, frozen=True, kw_only=True):
    """One tensor of a shard. `offset` counts from byte 0 of the file, not of the data section [bytes]."""

    name: str
    dtype: str
    shape: tuple[int, ...]
    offset: int
    size: int


class Shard(msgspec.Struct, frozen=True, kw_only=True):
    """One safetensors file and its tensors, in file order."""

    path: str
    size: int
    tensors: tuple[Tensor, ...]
    metadata: Mapping[str, str] = {}


class FileRow(msgspec.Struct, frozen=True, kw_only=True):
    """One file of an artifact: where its bytes are, and what they must be.

    `layer` is the digest of the uncompressed blob, `offset` where the file starts in it [bytes]; `chunks` holds a
    32-byte blake3 for each 8 MiB of the file, in order.
    """

    path: str
    size: int
    layer: Digest
    offset: int
    crc32: int
    crc64: int
    chunks: bytes


class Checkpoint(msgspec.Struct, frozen=True, kw_only=True):
    """The state of sealing a layer at the end of a chunk, so that another process can go on from there.

    `position` counts the blob's bytes so far, `end` those of file number `file` of the layer; `sha256` is the saved
    state of the blob's hash, the CRCs are the file's so far, `chunk` is the blake3 of the chunk that ended, and
    `content` the saved state of the file's own sha256, where its source states one.
    """

    position: int
    file: int
    end: int
    sha256: bytes
    crc32: int
    crc64: int
    chunk: bytes
    content: bytes = b""
