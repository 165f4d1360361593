"""From a reference to a store."""

from __future__ import annotations

from modelctl.core.reference import Reference
from modelctl.packing.artifact import Artifact, load_artifact
from modelctl.registry.ocidir import OciDir


def open_store(reference: Reference) -> OciDir:
    return OciDir(reference.path)


def open_artifact(reference: Reference) -> tuple[OciDir, Artifact]:
    """Resolve a reference and read the artifact's documents; `NotFound`, `Invalid` or `DigestMismatch`."""
    store = open_store(reference)
    return store, load_artifact(store, store.resolve(reference.name))
