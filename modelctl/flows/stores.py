"""From a reference to a store, and to the artifact in it."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager

from modelctl.core.access import Access
from modelctl.core.pace import Pace
from modelctl.core.protocols import Store
from modelctl.core.reference import Reference
from modelctl.packing.artifact import Artifact, load_artifact
from modelctl.registry.ocidir import OciDir


def open_store(reference: Reference, access: Access, paces: Sequence[Pace] = ()) -> Store:
    """Open the layout or the repository that a reference names; the network is first used when something is asked.

    Blobs go to a repository no faster than `paces` allow.
    """
    if not reference.registry:
        return OciDir(reference.path)
    from modelctl.registry.remote import RemoteStore
    from modelctl.registry.transport import Transport

    return RemoteStore(Transport(reference.registry, access, paces), reference.path)


def open_artifact(reference: Reference, access: Access) -> tuple[Store, Artifact]:
    """Resolve a reference and read the artifact's documents; `NotFound`, `Invalid` or `DigestMismatch`."""
    store = open_store(reference, access)
    return store, load_artifact(store, store.resolve(reference.name))


@contextmanager
def writing(store: Store) -> Iterator[None]:
    """Hold a layout for writing, made when it is not there; a registry looks after itself."""
    if not isinstance(store, OciDir):
        yield
        return
    store.create()
    with store.writing():
        yield
