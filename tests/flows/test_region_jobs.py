"""One region's part of a job: what is shown of a blob that it catches up on, and who is told that it has it."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import cast

import pytest

from modelctl.core.errors import Unavailable
from modelctl.core.media_types import OCI_LAYER
from modelctl.core.progress import Progress
from modelctl.core.protocols import Store
from modelctl.core.types import Bytes, Descriptor, Digest, digest_of
from modelctl.flows.region_jobs import Job, Origins, RegionJob, RegionOptions
from modelctl.flows.region_report import RegionReport, Watcher
from modelctl.registry.shared import SharedReads
from tests.fakes.memory import MemoryStore, MemoryUpload
from tests.models import noise

DATA = noise(3 << 20, "blob")
BLOB = Descriptor(media_type=OCI_LAYER, digest=digest_of(DATA), size=len(DATA))


@dataclass
class Region(MemoryStore):
    """A region that takes so many bytes."""

    most: int = 1 << 60

    def has(self, descriptor: Descriptor) -> bool:
        return descriptor.digest in self.blobs

    def upload(self, _blob: object, _name: str) -> Upload:  # type: ignore[override]
        return Upload(self, self.most)


class Upload(MemoryUpload):
    def __init__(self, store: MemoryStore, most: int) -> None:
        super().__init__(store)
        self._most = most

    def write(self, data: Bytes) -> None:
        super().write(data)
        if len(self._data) > self._most:
            raise Unavailable("the region")

    def __enter__(self) -> Upload:
        return self

    def __exit__(self, *_error: object) -> None:
        """Nothing is held."""


@dataclass
class Shown(Progress):
    sizes: list[int] = field(default_factory=list)

    def advance(self, _name: str, size: int) -> None:
        self.sizes.append(size)


class Asking(SharedReads):
    """Reads the blob elsewhere as soon as it is said that a member has it."""

    origins: Origins

    def settle(self, name: str, digest: Digest) -> None:
        super().settle(name, digest)
        blob = self.origins.open(BLOB, True)
        blob.read_into(0, memoryview(bytearray(100)))


def job_of(region: Region, shown: Progress) -> RegionJob:
    origin = cast(Store, MemoryStore({BLOB.digest: DATA}))
    job = Job(origin, RegionOptions(), Watcher(), 1)
    reads = Asking(job.origins.open, 1)
    reads.origins, job.reads = job.origins, reads
    row = RegionReport(region="a", reference="", tag="v1", size=len(DATA))
    return RegionJob(job, row, cast(Store, region), shown, 1)


def test_what_a_blob_that_failed_has_shown_is_taken_back() -> None:
    shown = Shown()
    with pytest.raises(Unavailable):
        job_of(Region(most=2 << 20), shown).catch_up(BLOB, "an upload")

    assert (sum(shown.sizes), max(shown.sizes) > 0) == (0, True)


def test_who_is_told_that_a_region_has_a_blob_can_read_it_there() -> None:
    region = job_of(Region(), Shown())
    region.catch_up(BLOB, "an upload")

    assert region.job.origins.read_elsewhere == 100
