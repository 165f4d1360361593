"""Push an artifact to the registries of many regions, side by side, each blob read once for all."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, Future, ThreadPoolExecutor, wait
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, replace
from functools import partial
from typing import Literal

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import IfExists, TagWhen
from modelctl.core.config import load_config
from modelctl.core.errors import ModelctlError, failing
from modelctl.core.pace import Pace
from modelctl.core.progress import Progress
from modelctl.core.protocols import Blob, Store
from modelctl.core.reference import LATEST, Reference
from modelctl.core.types import Descriptor, Digest
from modelctl.flows.delivery import Delivery, Package, read_package
from modelctl.flows.push import check_destination
from modelctl.flows.regions import chosen_regions, place
from modelctl.flows.stores import open_store
from modelctl.flows.workers import JOBS, Workers
from modelctl.registry.ocidir import OciDir
from modelctl.registry.shared import SharedBlob, SharedReads

State = Literal["Waiting", "Sending", "Ready", "Pushed", "Untagged", "Planned", "Failed"]
"""Ready is all there but the tag; Untagged, that another region failed and `--tag-when all` left it so."""


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """What the user may choose; the names are those of the flags. `rate` is for all regions together [bytes/s]."""

    if_exists: IfExists = "replace"
    jobs: int | None = None
    concurrency: int = 16
    rate: float = 0.0
    tag_when: TagWhen = "each"
    dry_run: bool = False
    access: Access = DEFAULT


class RegionReport(msgspec.Struct, kw_only=True):
    """How a region is, at any time.

    `sent`, `skipped` and `mounted` are digests of blobs. Of `size` bytes `done` are there; `bytes` went over the wire,
    in whole uploads, those that were sent twice counted twice. `code` is of the error that ended it.
    """

    region: str
    reference: str
    tag: str
    size: int
    state: State = "Waiting"
    tagged: bool = False
    sent: list[str] = msgspec.field(default_factory=list)
    skipped: list[str] = msgspec.field(default_factory=list)
    mounted: list[str] = msgspec.field(default_factory=list)
    done: int = 0
    bytes: int = 0
    seconds: float = 0.0
    code: str = ""
    why: str = ""
    hint: str = ""


class RegionsReport(msgspec.Struct, kw_only=True):
    """An artifact in regions. `read` is what was read of a source in a registry, for all of them [bytes].

    `read_elsewhere` was read from regions that had the blobs already, for those that came later.
    """

    source: str
    digest: str
    size: int
    dry_run: bool
    regions: list[RegionReport]
    read: int = 0
    read_elsewhere: int = 0


class Watcher:
    """Is told how it goes; this one tells nobody. Several threads call it, one for each region and more."""

    def planned(self, regions: Sequence[RegionReport]) -> None:
        """These are the regions; nothing was done yet."""

    def changed(self, region: RegionReport) -> None:
        """A region is in another state than before."""

    def moved(self, region: RegionReport) -> None:
        """A region has more bytes."""


def push_regions(
    source: Reference, to: str, names: Sequence[str], options: RegionOptions, watcher: Watcher
) -> tuple[RegionsReport, dict[str, ModelctlError]]:
    """Copy the artifact `source` to regions; one that fails, or is slow, delays no other.

    Args:
        source: A layout's, or a registry's.
        to: The name in every region, without registry and namespace; empty for that of a source in a registry.
        names: Of the regions, or `ALL`.
        options: The flags.
        watcher: Told of each region.

    Returns:
        The report, and what ended each region that failed.

    Raises:
        UsageProblem: No such region, or no name there. NotFound, Denied, Unavailable: The source cannot be read.
    """
    config = load_config()
    wanted: Reference | str = to or source
    chosen = chosen_regions(names, config)
    places = {name: place(wanted, name, config, options.access) for name in chosen}
    for reference, _ in places.values():
        check_destination(reference)
    package = read_package(source, options.access)
    job = _Job(package, options, watcher, len(places))
    deliveries = []
    for name, (reference, access) in places.items():
        region = config.region(name)
        paces = ([Pace(region.rate)] if region.rate else []) + job.paces
        jobs = min(options.jobs or JOBS, region.connections or 256)
        deliveries.append(job.delivery(name, reference, open_store(reference, access, paces), jobs))
    report = RegionsReport(
        source=str(source),
        digest=package.root.digest,
        size=package.size,
        dry_run=options.dry_run,
        regions=[delivery.row for delivery in deliveries],
    )
    watcher.planned(report.regions)
    _side_by_side(deliveries, options)
    report.read, report.read_elsewhere = job.origins.read, job.origins.read_elsewhere
    return report, {one.row.region: one.error for one in deliveries if one.error}


def _side_by_side(regions: Sequence[_Region], options: RegionOptions) -> None:
    """Bring the artifact to each region, so many at once; then set the tags, if they had to wait."""
    with ThreadPoolExecutor(min(options.concurrency, len(regions))) as pool:
        try:
            _finish([pool.submit(region.bring) for region in regions])
            if options.tag_when == "all" and not options.dry_run:
                failed = [region.row.region for region in regions if region.error]
                rest = [region for region in regions if not region.error]
                _finish([pool.submit(region.leave_untagged if failed else region.point, *failed) for region in rest])
        except BaseException:
            for region in regions:
                region.delivery.workers.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


def _finish(futures: Sequence[Future[None]]) -> None:
    """Wait for all; raise at once what is no region's failure."""
    done, _ = wait(futures, return_when=FIRST_EXCEPTION)
    for future in done:
        future.result()


class _Job:
    """What the regions have in common: package, reads, and the rate of all."""

    def __init__(self, package: Package, options: RegionOptions, watcher: Watcher, regions: int) -> None:
        self.package, self.options, self.watcher = package, options, watcher
        self.paces = [Pace(options.rate)] if options.rate else []
        self.origins = _Origins(package.store)
        readers = min(options.concurrency, regions) * (options.jobs or JOBS)
        self.reads = None if isinstance(package.store, OciDir) else SharedReads(self.origins.open, readers)

    def delivery(self, name: str, reference: Reference, store: Store, jobs: int) -> _Region:
        tag = reference.tag or LATEST
        row = RegionReport(region=name, reference=str(replace(reference, tag=tag)), tag=tag, size=self.package.size)
        workers = Workers(jobs, _RowProgress(row, self.watcher), remote=True)
        delivery = Delivery(self.package, store, tag, workers, self.options.if_exists)
        if self.reads:
            delivery.fetcher = _Together(self.reads, name)
            delivery.settled = partial(self._settle, self.reads, name, store)
        return _Region(self, row, delivery)

    def _settle(self, reads: SharedReads, name: str, store: Store, blob: Descriptor) -> None:
        reads.settle(name, blob.digest)
        self.origins.note(blob.digest, store)


class _RowProgress(Progress):
    """Adds up what a region has."""

    def __init__(self, row: RegionReport, watcher: Watcher) -> None:
        self._row, self._watcher = row, watcher
        self._lock = threading.Lock()

    def advance(self, _name: str, size: int) -> None:
        with self._lock:
            self._row.done += size
        self._watcher.moved(self._row)


@dataclass
class _Region:
    """One region's part of the job; its `row` is right at any time."""

    job: _Job
    row: RegionReport
    delivery: Delivery
    error: ModelctlError | None = None

    def bring(self) -> None:
        """Bring the artifact, and tag it unless that has to wait; what fails is kept."""
        options, reads = self.job.options, self.job.reads
        at_once = options.tag_when == "each"
        with self._until("Planned" if options.dry_run else "Pushed" if at_once else "Ready"):
            if options.dry_run:
                self.delivery.look()
                return
            self.row.state = "Sending"
            self.job.watcher.changed(self.row)
            with reads.member(self.row.region) if reads else nullcontext():
                self.delivery.bring()
            if at_once:
                self.delivery.point()

    def point(self) -> None:
        """Set the tag."""
        with self._until("Pushed"):
            self.delivery.point()

    def leave_untagged(self, *failed: str) -> None:
        """Say that the tag is not set, since other regions failed."""
        with self._until("Untagged"):
            self.row.why = f"all is there but the tag, for {', '.join(failed)} failed"

    @contextmanager
    def _until(self, state: State) -> Iterator[None]:
        """Do what ends in a state, or in a failure, which is kept."""
        began = time.monotonic()
        row, copied = self.row, self.delivery.copied
        try:
            yield
        except ModelctlError as error:
            self.error = error
            state, row.code, row.hint = "Failed", error.code, error.hint
            row.why = f"{error.what}: {error.why}" if error.why else error.what
        row.seconds = round(row.seconds + time.monotonic() - began, 3)
        row.bytes = sum(copied.sizes)
        row.sent, row.skipped, row.mounted = list(copied.sent), list(copied.skipped), list(copied.mounted)
        row.tagged = state == "Pushed" and self.delivery.tagged
        row.state = state
        self.job.watcher.changed(row)


@dataclass(frozen=True)
class _Together:
    """Opens blobs for one region, to be read together with the others."""

    reads: SharedReads
    name: str

    def open(self, descriptor: Descriptor) -> SharedBlob:
        return self.reads.open(self.name, descriptor)


class _Origins:
    """Where blobs are read: at the origin, or in a region that has them by now. Counts what was read [bytes]."""

    def __init__(self, origin: Store) -> None:
        self._origin = origin
        self._holders: dict[Digest, Store] = {}
        self._lock = threading.Lock()
        self.read = self.read_elsewhere = 0

    def note(self, digest: Digest, holder: Store) -> None:
        """Take note that a store has a blob; who had it first is asked."""
        self._holders.setdefault(digest, holder)

    def open(self, descriptor: Descriptor, elsewhere: bool) -> Blob:  # noqa: FBT001
        """Open a blob, where it may be `elsewhere` in a region that has it."""
        holder = self._holders.get(descriptor.digest) if elsewhere else None
        return _Copies(self, descriptor, [holder, self._origin] if holder else [self._origin])

    def count(self, store: Store, size: int) -> None:
        with self._lock:
            self.read += size if store is self._origin else 0
            self.read_elsewhere += 0 if store is self._origin else size


class _Copies:
    """A blob that several stores have: one is read until it fails, then the next. Closed, it opens again."""

    def __init__(self, origins: _Origins, descriptor: Descriptor, stores: list[Store]) -> None:
        self.size = descriptor.size
        self._origins, self._descriptor, self._stores = origins, descriptor, stores
        self._blob: Blob | None = None

    def read_into(self, offset: int, buffer: memoryview) -> None:
        with failing("source"):
            try:
                self._blob = self._blob or self._stores[0].open(self._descriptor)
                self._blob.read_into(offset, buffer)
            except ModelctlError:
                self.close()
                if len(self._stores) == 1:
                    raise
                self._stores.pop(0)
                self.read_into(offset, buffer)
            else:
                self._origins.count(self._stores[0], len(buffer))

    def close(self) -> None:
        blob, self._blob = self._blob, None
        if blob:
            blob.close()
