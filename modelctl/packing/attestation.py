"""A statement about an artifact as an artifact of its own, which names the other as its subject.

Source: OCI image-spec v1.1 manifest.md, "Guidelines for Artifact Usage"; in-toto attestation spec v1.
"""

from __future__ import annotations

from typing import NamedTuple

import msgspec

from modelctl.core import media_types
from modelctl.core.errors import Invalid
from modelctl.core.protocols import Fetcher
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Manifest, canonical_json, digest_of
from modelctl.packing.artifact import parse_manifest, read_document
from modelctl.packing.provenance import MAX_STATEMENT_SIZE, PREDICATE_TYPE

_EMPTY = b"{}"


class Attestation(NamedTuple):
    """What to store: the blobs, then the manifest, `raw`."""

    manifest: Descriptor
    raw: bytes
    blobs: tuple[bytes, ...]


def render_attestation(statement: bytes, subject: Descriptor) -> Attestation:
    """Return the artifact that attaches an in-toto statement of provenance to `subject`."""
    annotations = {media_types.PREDICATE_TYPE: PREDICATE_TYPE}
    layer = Descriptor(
        media_type=media_types.IN_TOTO, digest=digest_of(statement), size=len(statement), annotations=annotations
    )
    manifest = Manifest(
        schema_version=2,
        artifact_type=media_types.IN_TOTO,
        config=Descriptor(media_type=media_types.OCI_EMPTY, digest=digest_of(_EMPTY), size=len(_EMPTY)),
        layers=(layer,),
        subject=Descriptor(media_type=subject.media_type, digest=subject.digest, size=subject.size),
        annotations=annotations,
    )
    raw = canonical_json({"mediaType": manifest.media_type, **msgspec.to_builtins(manifest)})
    described = Descriptor(media_type=manifest.media_type, digest=digest_of(raw), size=len(raw))
    return Attestation(described, raw, (_EMPTY, statement))


def load_statement(fetcher: Fetcher, attestation: Descriptor) -> bytes:
    """Read the statement of an attached artifact, whoever made it.

    Raises:
        Invalid: It is not one manifest with one in-toto statement, or that is too large. DigestMismatch, NotFound.
    """
    layers = parse_manifest(read_document(fetcher, attestation, MAX_DOCUMENT_SIZE)).layers
    if len(layers) != 1 or layers[0].media_type != media_types.IN_TOTO:
        raise Invalid(f"attestation {attestation.digest}", why="it is not one in-toto statement")
    return read_document(fetcher, layers[0], MAX_STATEMENT_SIZE)
