"""What is attached to an artifact: what goes with it when it is pushed, and its provenance, written and read."""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import suppress

from modelctl.core.errors import ChecksumMismatch, Invalid, NotFound
from modelctl.core.media_types import IN_TOTO, OCI_MANIFEST
from modelctl.core.protocols import BytesBlob, Store
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest, Manifest, digest_of
from modelctl.packing.artifact import read_document
from modelctl.packing.attestation import load_statement, render_attestation
from modelctl.packing.provenance import Provenance, parse_provenance, render_provenance

MAX_READ = 8
"""So many attached statements are read: whoever may push may attach thousands."""


def attach_provenance(store: Store, subject: Descriptor, provenance: Provenance) -> bool:
    """Attach provenance to a manifest, unless the same is attached already; return whether it is new."""
    attestation = render_attestation(render_provenance(provenance, subject.digest), subject)
    listed = store.referrers(subject.digest, IN_TOTO)
    if attestation.manifest.digest in {item.digest for item in listed}:
        return False
    for data in attestation.blobs:
        with store.upload(BytesBlob(data)) as upload:
            upload.write(data)
            upload.commit(digest_of(data))
    store.put_manifest(attestation.manifest, attestation.raw)
    return True


def load_provenances(store: Store, subject: Digest, attached: list[Descriptor]) -> dict[Digest, Provenance]:
    """Read the provenance that modelctl attached, by the digest of its manifest; whatever else is passed over."""
    found: dict[Digest, Provenance] = {}
    for item in [item for item in attached if item.artifact_type == IN_TOTO][:MAX_READ]:
        try:
            found[item.digest] = parse_provenance(load_statement(store, item), subject)
        except (Invalid, NotFound, ChecksumMismatch):
            continue
    return found


def read_attached(store: Store, subject: Digest) -> list[tuple[Descriptor, bytes]]:
    """Return the manifests that name `subject`, to the byte; an index, and what is listed and gone, is passed over."""
    found = []
    for item in store.referrers(subject):
        with suppress(NotFound):
            if item.media_type == OCI_MANIFEST:
                found.append((item, read_document(store, item, MAX_DOCUMENT_SIZE)))
    return found


def blobs_of(manifests: Iterable[Manifest]) -> list[Descriptor]:
    """Return the blobs that manifests name, each once."""
    blobs = [blob for manifest in manifests for blob in (*manifest.layers, manifest.config)]
    return list({blob.digest: blob for blob in blobs}.values())
