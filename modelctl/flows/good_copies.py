"""Good copies of blobs, in regions and layouts: each is proved to the byte before it is used."""

from __future__ import annotations

import hashlib
import threading
from collections.abc import Callable, Sequence
from contextlib import closing
from dataclasses import dataclass

from modelctl.core.access import Access
from modelctl.core.chunks import feed
from modelctl.core.errors import ModelctlError, NotFound
from modelctl.core.protocols import Store
from modelctl.core.reference import Reference
from modelctl.core.types import Descriptor, Digest
from modelctl.packing.artifact import Artifact


@dataclass(frozen=True)
class Holder:
    """An artifact in a place called `name`, whose documents are right; so are its blobs, but for the `bad` ones."""

    name: str
    reference: Reference
    access: Access
    store: Store
    artifact: Artifact
    bad: frozenset[Digest] = frozenset()

    @property
    def good(self) -> set[Digest]:
        manifest = self.artifact.manifest
        named = (self.artifact.root, manifest.config, *manifest.layers)
        return {descriptor.digest for descriptor in named} - self.bad


class GoodCopies:
    """The places that have good copies. Thread-safe."""

    def __init__(self, holders: Sequence[Holder]) -> None:
        self._holders = holders
        self._proved: dict[tuple[str, Digest], bool] = {}
        self._locks: dict[Digest, threading.Lock] = {}

    def of(self, root: str) -> Holder | None:
        """Return a place that has the artifact whose manifest has the digest `root`."""
        return next((holder for holder in self._holders if holder.artifact.root.digest == root), None)

    def find(self, blob: Descriptor, advance: Callable[[int], None]) -> Holder:
        """Return a place whose copy of a blob was read, and has its digest; `NotFound` when there is none.

        `advance` is called with what was read [bytes], and may raise to stop.
        """
        having = [holder for holder in self._holders if blob.digest in holder.good]
        with self._locks.setdefault(blob.digest, threading.Lock()):
            found = next((holder for holder in having if self._is_proved(holder, blob, advance)), None)
        if found:
            return found
        raise NotFound(
            f"blob {blob.digest}",
            why=f"none of {len(having)} places that seemed to have a good copy has one"
            if having
            else "no place has it",
            hint="--from REF names another artifact, or a layout, that has it",
        )

    def _is_proved(self, holder: Holder, blob: Descriptor, advance: Callable[[int], None]) -> bool:
        key = (holder.name, blob.digest)
        if key not in self._proved:
            self._proved[key] = _hashes_to_its_digest(holder.store, blob, advance)
        return self._proved[key]


def _hashes_to_its_digest(store: Store, blob: Descriptor, advance: Callable[[int], None]) -> bool:
    sha = hashlib.sha256()
    try:
        with closing(store.open(blob)) as opened:
            feed(opened, 0, blob.size, [sha.update], advance)
    except ModelctlError:
        return False
    return f"sha256:{sha.hexdigest()}" == blob.digest
