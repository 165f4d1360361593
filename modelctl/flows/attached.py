"""What is attached to an artifact: what goes with it when it is pushed, and its provenance, written and read."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import suppress
from fnmatch import fnmatchcase
from typing import NamedTuple

from modelctl.core.errors import ChecksumMismatch, Invalid, NotFound, UsageProblem
from modelctl.core.media_types import IN_TOTO, OCI_MANIFEST
from modelctl.core.protocols import BytesBlob, Store
from modelctl.core.types import MAX_DOCUMENT_SIZE, Descriptor, Digest, Manifest, digest_of
from modelctl.packing.artifact import read_document
from modelctl.packing.attestation import load_statement, render_attestation
from modelctl.packing.provenance import Provenance, parse_provenance, render_provenance
from modelctl.registry.referrers import COSIGN, fallback_tag

ALL, NONE = "all", "none"
"""What `--attached` may say in place of artifact types."""

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


class Attached(NamedTuple):
    """Manifests to the byte, what is attached to others behind those; `tags` are the names of cosign's."""

    manifests: list[tuple[Descriptor, bytes]]
    tags: dict[str, Descriptor]


def parse_attached(text: str) -> tuple[str, ...]:
    """Return what `--attached` asks for; `UsageProblem` for what is neither a word of it nor an artifact type."""
    wanted = tuple(text.split(","))
    unknown = [one for one in wanted if one not in (ALL, NONE, *COSIGN) and "/" not in one]
    if unknown:
        raise UsageProblem(
            f"--attached {text[:200]}",
            why=f"{unknown[0][:100]!r} is neither {ALL}, {NONE}, {', '.join(COSIGN)} nor an artifact type",
            hint="modelctl inspect says what is attached, and of which artifact type",
        )
    return wanted


def read_attached(store: Store, root: Digest, wanted: Sequence[str] = (ALL,)) -> Attached:
    """Read what is attached to a manifest, and to what is attached to it.

    An index, and what is listed and gone, is passed over.

    Args:
        store: Where it is.
        root: The manifest.
        wanted: Artifact types, in which `*` stands for anything; words of `COSIGN` for its tags; or `ALL`.
    """
    found = Attached([], {})
    subjects = [root] if set(wanted) != {NONE} else []
    for subject in subjects:
        named = [(item.artifact_type, "", item) for item in store.referrers(subject)]
        for kind, tag, item in [*named, *_cosigned(store, subject)]:
            if item.media_type != OCI_MANIFEST or not _is_wanted(kind, wanted):
                continue
            with suppress(NotFound):
                if item.digest not in subjects:
                    found.manifests.append((item, read_document(store, item, MAX_DOCUMENT_SIZE)))
                    subjects.append(item.digest)
                found.tags.update({tag: item} if tag else {})
    return found


def _cosigned(store: Store, subject: Digest) -> Iterator[tuple[str, str, Descriptor]]:
    """Yield what cosign put under tags made of a digest: word, tag and manifest."""
    for word in COSIGN:
        tag = f"{fallback_tag(subject)}.{word}"
        with suppress(NotFound):
            yield word, tag, store.resolve(tag)


def _is_wanted(kind: str, wanted: Sequence[str]) -> bool:
    return ALL in wanted or any(fnmatchcase(kind, pattern) for pattern in wanted)


def blobs_of(manifests: Iterable[Manifest]) -> list[Descriptor]:
    """Return the blobs that manifests name, each once."""
    blobs = [blob for manifest in manifests for blob in (*manifest.layers, manifest.config)]
    return list({blob.digest: blob for blob in blobs}.values())
