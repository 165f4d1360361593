"""What is known of layers before a byte of their files is read: from the digest cache, and from the previous artifact.

It tells what has not changed. What is sent is hashed anyway, and what is not sent the store has under its digest.
"""

from __future__ import annotations

import threading
from collections.abc import Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing, suppress

from modelctl.core.chunks import ChunkHashes, feed
from modelctl.core.disk import is_local
from modelctl.core.errors import DigestMismatch, ModelctlError
from modelctl.core.media_types import IN_TOTO, OCI_LAYER
from modelctl.core.protocols import Source, Store
from modelctl.core.types import Descriptor, Entry, Form
from modelctl.flows.attached import load_provenances
from modelctl.packing.artifact import load_artifact
from modelctl.packing.cache import DigestCache, Remembered, may_keep
from modelctl.packing.form import Member
from modelctl.packing.plan import PlannedLayer
from modelctl.packing.preflight import read_small
from modelctl.packing.provenance import same_files
from modelctl.packing.seal import SealedLayer
from modelctl.registry.ocidir import OciDir
from modelctl.registry.remote import RemoteStore
from modelctl.sources.file import FileSource

_Shape = tuple[Form, tuple[Member, ...]]

_ASKERS = 4
"""Questions to the store at once."""


class Known:
    """What is known of the layers of one source, for one store and tag; `source_read` is what was read of its files."""

    def __init__(self, source: Source, store: Store, tag: str, cache: DigestCache | None) -> None:
        """Believe `cache`, unless somebody elsewhere may write to the source's files unseen; without one, nothing."""
        self.source, self.store, self._tag = source, store, tag
        self.source_read = 0
        self._lock = threading.Lock()
        self._present: Mapping[PlannedLayer, Remembered] | None = None
        self._cache = cache if not isinstance(source, FileSource) or is_local(source.root) else None

    @property
    def problem(self) -> str:
        """What was wrong with the cache; nothing when it is well, or not used."""
        return self._cache.problem if self._cache else ""

    def present(self, plan: Sequence[PlannedLayer]) -> Mapping[PlannedLayer, Remembered]:
        """Return those layers of `plan` that are known, and that the store has. A registry is asked once.

        Where the cache knows nothing, what the tag points to now is asked: its provenance states what its files were,
        and a source other than a folder states what they are.
        """
        if self._present is None or isinstance(self.store, OciDir):
            self._present = self._find_present(plan)
        return self._present

    def _find_present(self, plan: Sequence[PlannedLayer]) -> Mapping[PlannedLayer, Remembered]:
        if self._cache is None:
            return {}
        found = {layer: self._cache.find(layer) for layer in plan}
        missing = [layer for layer, remembered in found.items() if remembered is None]
        if missing and not isinstance(self.source, FileSource):
            stated = self._from_previous(missing)
            for layer, one in stated.items():
                self._cache.keep(layer, one.digest, one.size, one.rows)
            found |= stated
        known = {layer: one for layer, one in found.items() if one}
        with ThreadPoolExecutor(_ASKERS) as pool:
            has = pool.map(lambda one: self.store.has(_descriptor(one)), known.values())
            return {layer: one for (layer, one), there in zip(known.items(), has, strict=True) if there}

    def read(self, entry: Entry, limit: int) -> bytes:
        """Read a whole file of at most `limit` bytes: from the store where its layer is `present`, else the source."""
        found = (one for layer, one in (self._present or {}).items() if entry in layer.entries)
        layer = next(found, None) if entry.size <= limit else None
        return read_stored(self.store, layer, entry.path) if layer else read_small(self.source, entry, limit)

    def keep(self, sealed: SealedLayer, hashed_at: float) -> None:
        """Remember a layer whose files were read from `hashed_at` on [s since 1970]."""
        if self._cache and all(may_keep(entry, hashed_at) for entry in sealed.plan.entries):
            self._cache.keep(sealed.plan, sealed.digest, sealed.size, sealed.rows)
            if isinstance(self.store, RemoteStore):
                self._cache.keep_place(sealed.digest, str(self.store.transport.registry), self.store.name)

    def taken_over(self, layer: PlannedLayer) -> Remembered | None:
        """Return a known layer that the store had not, and has now from another repository; see `mounted`."""
        found = self._cache.find(layer) if self._cache else None
        return found if found and self.mounted(_descriptor(found)) else None

    def mounted(self, blob: Descriptor) -> bool:
        """Take a blob over from where it was packed, in another repository of the registry; say whether that worked."""
        if not self._cache or not isinstance(self.store, RemoteStore):
            return False
        origin = self._cache.place(blob.digest, str(self.store.transport.registry))
        with suppress(ModelctlError):
            return origin not in ("", self.store.name) and self.store.mount(blob, origin)
        return False

    def count(self, size: int) -> None:
        """Take note that so much was read of the source [bytes]."""
        with self._lock:
            self.source_read += size

    def _from_previous(self, missing: Sequence[PlannedLayer]) -> dict[PlannedLayer, Remembered]:
        try:
            artifact = load_artifact(self.store, self.store.resolve(self._tag))
            digest = artifact.root.digest
            provenances = load_provenances(self.store, digest, self.store.referrers(digest, IN_TOTO))
        except ModelctlError:
            return {}
        entries = [entry for layer in missing for entry in layer.entries]
        same: set[str] = set()
        for provenance in provenances.values():
            same |= same_files(provenance, self.source.origin, entries)
        before: dict[_Shape, Remembered] = {
            (layer.form, tuple(layer.members)): Remembered(digest=layer.digest, size=layer.size, rows=layer.rows)
            for layer in artifact.layers
            if not layer.gzipped
        }
        unchanged = [layer for layer in missing if all(entry.path in same for entry in layer.entries)]
        shapes = {layer: (layer.form, tuple(layer.members)) for layer in unchanged}
        return {layer: before[shape] for layer, shape in shapes.items() if shape in before}


def read_stored(store: Store, layer: Remembered | SealedLayer, path: str) -> bytes:
    """Read a file of a layer that the store has.

    Raises:
        DigestMismatch: It rotted there.
    """
    (row,) = [row for row in layer.rows if row.path == path]
    data, hashes = bytearray(), ChunkHashes()
    with closing(store.open(_descriptor(layer))) as blob:
        feed(blob, row.offset, row.size, [data.extend, hashes.update], lambda _size: None)
    if hashes.finish() != row.chunks:
        raise DigestMismatch(
            f"{path} in {store}",
            why=f"it is not what was packed as layer {layer.digest}",
            hint="run the same command with --no-cache, which writes it again",
        )
    return bytes(data)


def _descriptor(layer: Remembered | SealedLayer) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER, digest=layer.digest, size=layer.size)
