"""Seal the layers of a model side by side into a store, but for those that are known and there."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, suppress

from modelctl.core.errors import ModelctlError
from modelctl.core.media_types import OCI_LAYER
from modelctl.core.protocols import Source, Store, Upload
from modelctl.core.types import Descriptor, Digest
from modelctl.flows.known import Known
from modelctl.flows.workers import Workers
from modelctl.packing.artifact import load_artifact
from modelctl.packing.cache import Remembered
from modelctl.packing.form import Member
from modelctl.packing.plan import PlannedLayer
from modelctl.packing.planned import PlannedBlob
from modelctl.packing.seal import SealedLayer, check_crc32, seal
from modelctl.registry.ocidir import OciDir
from modelctl.registry.twin import PresentUpload, upload_beside


def seal_layers(
    plan: Sequence[PlannedLayer], known: Known, stated: Mapping[str, int], workers: Workers, memory: int
) -> Sequence[SealedLayer]:
    """Seal the layers side by side, but for those that are known and in the store, or can be mounted there.

    Args:
        plan: The layers, in order.
        known: What is known of them, the source and the store.
        stated: CRC-32 by path, of those files of which somebody stated one.
        workers: So many layers are worked on at once.
        memory: What may be read ahead of a source that is not on this machine [bytes].

    Raises:
        ChecksumMismatch: A file is not what it was, or what somebody stated.
    """
    source, store = known.source, known.store
    present, twins = known.present(plan), _twins(store)

    def seal_one(layer: PlannedLayer) -> SealedLayer:
        with workers.part(layer.title, sum(entry.size for entry in layer.entries)) as advance:
            remembered = present.get(layer) or known.taken_over(layer)
            taken = _taken(layer, remembered, source, stated, advance) if remembered else None
            if taken:
                return taken
            begun = time.time()
            planned = PlannedBlob(layer, source, known.count)
            with _upload(known, layer, planned, twins) as upload:
                share = memory // workers.jobs
                sealed = seal(layer, source, upload, stated, advance, memory=share, count=known.count)
            known.keep(sealed, begun)
            return sealed

    return workers.run(seal_one, plan)


def _taken(
    layer: PlannedLayer,
    remembered: Remembered,
    source: Source,
    stated: Mapping[str, int],
    advance: Callable[[int], None],
) -> SealedLayer | None:
    """Return a layer that the store has as if it had been sealed; its source says once more that it is the same.

    None when the source states another CRC-64 than its files have.
    """
    entries = tuple(source.check(entry) for entry in layer.entries)
    for entry, row in zip(entries, remembered.rows, strict=True):
        if entry.crc64 not in (None, row.crc64):
            return None
        check_crc32(row.path, row.crc32, stated)
    advance(sum(row.size for row in remembered.rows))
    return SealedLayer(layer, remembered.digest, remembered.size, remembered.rows, new=False, entries=entries)


@contextmanager
def _upload(
    known: Known, layer: PlannedLayer, planned: PlannedBlob, twins: Mapping[tuple[Member, ...], Descriptor]
) -> Iterator[Upload]:
    """Start to write a layer. One whose digest its source states, and that is or can be had there, is only read."""
    twin = twins.get(_shape(layer))
    blob = None if twin else stated_blob(layer)
    if blob and (known.store.has(blob) or known.mounted(blob)):
        yield PresentUpload()
        return
    with upload_beside(known.store, planned, layer.identity, twin) as upload:
        yield upload


def stated_blob(layer: PlannedLayer) -> Descriptor | None:
    """Return the blob of a layer whose digest its source states, before it is read."""
    entry = layer.entries[0]
    if layer.form != "raw" or not entry.sha256:
        return None
    return Descriptor(media_type=OCI_LAYER, digest=Digest(f"sha256:{entry.sha256}"), size=entry.size)


def _shape(layer: PlannedLayer) -> tuple[Member, ...]:
    return tuple(layer.members)


def _twins(store: Store) -> dict[tuple[Member, ...], Descriptor]:
    """Return the layers that the store has, by what a layer is before its files are read: their names and sizes."""
    found: dict[tuple[Member, ...], Descriptor] = {}
    for root in store.tags().values() if isinstance(store, OciDir) else ():
        with suppress(ModelctlError):
            for layer in load_artifact(store, root).layers:
                if not layer.gzipped:
                    found[tuple(layer.members)] = layer.descriptor
    return found
