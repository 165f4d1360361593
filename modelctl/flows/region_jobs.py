"""An artifact on its way into regions, side by side: what `push` and `pack` have in common."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field, replace
from functools import partial
from typing import cast

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import IfExists, TagWhen
from modelctl.core.config import Config
from modelctl.core.errors import ModelctlError, failing
from modelctl.core.pace import Pace
from modelctl.core.progress import Progress
from modelctl.core.protocols import Blob, Fetcher, Store
from modelctl.core.reference import LATEST, Reference
from modelctl.core.types import Descriptor, Digest
from modelctl.flows.attached import ALL
from modelctl.flows.delivery import Delivery, Package
from modelctl.flows.push import check_destination
from modelctl.flows.region_report import RegionReport, State, Watcher
from modelctl.flows.regions import in_region, name_in_regions, open_in_region, reach
from modelctl.flows.workers import JOBS, Workers, side_by_side
from modelctl.registry.copies import Copies
from modelctl.registry.copy import Copied, copy_blob
from modelctl.registry.hashed import Hashed
from modelctl.registry.ocidir import OciDir
from modelctl.registry.shared import SharedBlob, SharedReads


@dataclass(frozen=True, kw_only=True)
class RegionOptions:
    """What the user may choose; the names are those of the flags. `rate` is for all regions together [bytes/s]."""

    if_exists: IfExists = "replace"
    jobs: int | None = None
    concurrency: int = 16
    rate: float = 0.0
    tag_when: TagWhen = "each"
    dry_run: bool = False
    attached: str = ALL
    access: Access = DEFAULT


def tag_in_regions(wanted: Reference | str, config: Config) -> str:
    """Return the tag of an artifact in every region.

    Args:
        wanted: A reference in a registry, or a name without one.
        config: The settings.

    Raises:
        UsageProblem: It is no name in a region, or names what is to come by a digest.
    """
    named = name_in_regions(wanted, config)
    check_destination(named)
    return named.tag or LATEST


class Job:
    """What the regions have in common: where blobs are read, and the rate of all."""

    def __init__(self, origin: Store, options: RegionOptions, watcher: Watcher, regions: int) -> None:
        """Read from `origin`, for so many regions."""
        self.options, self.watcher = options, watcher
        self.origins = Origins(origin)
        readers = min(options.concurrency, regions) * (options.jobs or JOBS)
        self.reads = None if isinstance(origin, OciDir) else SharedReads(self.origins.open, readers)
        self._paces = [Pace(options.rate)] if options.rate else []

    def regions(
        self, wanted: Reference | str, tag: str, names: Sequence[str], config: Config, *, size: int
    ) -> list[RegionJob]:
        """Return each region's part of the job; what is wrong with the settings of one is its own failure.

        Args:
            wanted: A reference in a registry, or a name without one.
            tag: What `tag_in_regions` says of it.
            names: Of regions that the settings have.
            config: The settings.
            size: Of what goes there, as far as that is known [bytes].
        """
        rows = [RegionReport(region=name, reference="", tag=tag, size=size) for name in names]
        regions = [self._region(wanted, row, config) for row in rows]
        self.watcher.planned(rows)
        for region in regions:
            self.watcher.changed(region.row) if region.error else None
        return regions

    def _region(self, wanted: Reference | str, row: RegionReport, config: Config) -> RegionJob:
        name = row.region
        try:
            reference = in_region(wanted, name, config)
            row.reference = str(replace(reference, tag=row.tag))
            access = reach(config.region(name), name, self.options.access)
        except ModelctlError as error:
            failed = RegionJob(self, row, None, Progress(), 1)
            failed.fail(error)
            return failed
        store, jobs = open_in_region(reference, access, config.region(name), self.options.jobs, self._paces)
        return RegionJob(self, row, store, _RowProgress(row, self.watcher), jobs)

    def run(self, regions: Sequence[RegionJob], package: Package) -> None:
        """Bring the artifact to each region that has not failed; then set the tags, if they had to wait."""
        options = self.options
        live = [region for region in regions if not region.error]
        with side_by_side([region.workers for region in live], options.concurrency) as do:
            do([partial(region.bring, package) for region in live])
            if options.tag_when == "all" and not options.dry_run:
                failed = [region.row.region for region in regions if region.error]
                rest = [region for region in live if not region.error]
                do([partial(region.leave_untagged, *failed) if failed else region.point for region in rest])

    def look(self, regions: Sequence[RegionJob], parts: Sequence[Part]) -> None:
        """Say of each region what would be sent."""
        live = [region for region in regions if not region.error]
        with side_by_side([region.workers for region in live], self.options.concurrency) as do:
            do([partial(region.look, parts) for region in live])


class _RowProgress(Progress):
    """Adds up what a region has."""

    def __init__(self, row: RegionReport, watcher: Watcher) -> None:
        self._row, self._watcher = row, watcher
        self._lock = threading.Lock()

    def advance(self, _name: str, size: int) -> None:
        with self._lock:
            self._row.done += size
        self._watcher.moved(self._row)


@dataclass(eq=False)
class RegionJob:
    """One region's part of a job; its `row` is right at any time. One whose settings are wrong has no store.

    At most `jobs` uploads go there at once. `copied` says what became of the blobs so far; `before` is called before it
    is brought the rest.
    """

    job: Job
    row: RegionReport
    place: Store | None
    progress: Progress
    jobs: int
    copied: Copied = field(default_factory=Copied)
    error: ModelctlError | None = None
    before: Callable[[], None] = lambda: None
    _delivery: Delivery | None = None
    _unread: list[str] = field(default_factory=list)
    _since: float | None = None
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def __post_init__(self) -> None:
        self.workers = Workers(self.jobs, self.progress, remote=True)

    @property
    def store(self) -> Store:
        """Where the artifact goes; there is one as long as the region has not failed."""
        return cast(Store, self.place)

    def begin(self) -> None:
        """Say that it goes on its way, if it does not yet."""
        with self._lock:
            if self.row.state != "Waiting":
                return
            self._since = time.monotonic()
            self.row.state = "Sending"
        self.job.watcher.changed(self.row)

    def give_up(self, error: ModelctlError) -> None:
        """End in a failure at the destination."""
        with self._until("Failed"), failing("destination"):
            raise error

    def fail(self, error: ModelctlError) -> None:
        """Take no more part."""
        self.error, row = error, self.row
        row.state, row.code, row.hint = "Failed", error.code, error.hint
        row.why = error.seen

    def catch_up(self, blob: Descriptor, name: str) -> None:
        """Get one blob from where it is, going on with the upload called `name`; one that fails has moved nothing.

        Raises:
            ModelctlError: Of whatever kind.
        """
        origin, copied = self.job.origins.origin, self.copied
        moved = 0

        def move(size: int) -> None:
            nonlocal moved
            advance(size)
            moved += size

        with self.workers.part(blob.digest, blob.size) as advance:
            try:
                copy_blob(origin, blob, self.store, copied, move, fetcher=self._fetcher, name=name)
            except BaseException:
                self.progress.advance(blob.digest, -moved)
                raise
        self._settle(blob)

    def look(self, parts: Sequence[Part]) -> None:
        """Say which of `parts` would be sent, as if they had been."""
        with self._until("Planned"), failing("destination"):
            there = self.workers.run(lambda part: part.blob is not None and self.store.has(part.blob), parts)
            for part, present in zip(parts, there, strict=True):
                if part.blob:
                    (self.copied.skipped if present else self.copied.sent).append(part.blob.digest)
                else:
                    self._unread.append(part.name)
                self.copied.sizes.append(0 if present else part.size)

    def bring(self, package: Package) -> None:
        """Bring the artifact, and tag it unless that has to wait; what fails is kept."""
        job, options, name = self.job, self.job.options, self.row.region
        self.row.size = package.size
        delivery = self._delivery = Delivery(
            package,
            self.store,
            self.row.tag,
            self.workers,
            options.if_exists,
            fetcher=self._fetcher,
            settled=self._settle,
            copied=self.copied,
        )
        at_once = options.tag_when == "each"
        with self._until("Planned" if options.dry_run else "Pushed" if at_once else "Ready"):
            if options.dry_run:
                delivery.look()
                return
            self.begin()
            self.before()
            with job.reads.member(name) if job.reads else nullcontext():
                delivery.bring()
            if at_once:
                delivery.point()

    def point(self) -> None:
        """Set the tag."""
        with self._until("Pushed"):
            if self._delivery:
                self._delivery.point()

    def leave_untagged(self, *failed: str) -> None:
        """Say that the tag is not set, since other regions failed."""
        with self._until("Untagged"):
            self.row.why = f"all is there but the tag, for {', '.join(failed)} failed"

    @property
    def _fetcher(self) -> Fetcher | None:
        return _Together(self.job.origins, self.job.reads, self.row.region) if self.job.reads else None

    def _settle(self, blob: Descriptor) -> None:
        if self.job.reads:
            self.job.origins.note(blob.digest, self.store)
            self.job.reads.settle(self.row.region, blob.digest)

    @contextmanager
    def _until(self, state: State) -> Iterator[None]:
        """Do what ends in a state, or in a failure, which is kept."""
        began, row, copied = self._since or time.monotonic(), self.row, self.copied
        try:
            yield
            row.state = state
        except ModelctlError as error:
            self.fail(error)
        self._since = None
        row.seconds = round(row.seconds + time.monotonic() - began, 3)
        row.bytes = sum(copied.sizes)
        row.sent, row.skipped, row.mounted = [*copied.sent, *self._unread], list(copied.skipped), list(copied.mounted)
        row.tagged = row.state == "Pushed" and bool(self._delivery and self._delivery.tagged)
        self.job.watcher.changed(row)


@dataclass(frozen=True)
class Part:
    """A part of an artifact that is not made yet: `size` bytes called `name`, and the blob if that is known."""

    name: str
    size: int
    blob: Descriptor | None = None


@dataclass(frozen=True)
class _Together:
    """Opens blobs for one region, to be read together with the others."""

    origins: Origins
    reads: SharedReads
    name: str

    def __str__(self) -> str:
        return str(self.origins.origin)

    def open(self, descriptor: Descriptor) -> SharedBlob:
        return self.reads.open(self.name, descriptor)


class Origins:
    """Where blobs are read, and hashed: at the origin, or in a region that has them by now. Counts the bytes read."""

    def __init__(self, origin: Store) -> None:
        self.origin = origin
        self._holders: dict[Digest, Store] = {}
        self._lock = threading.Lock()
        self.read = self.read_elsewhere = 0

    def note(self, digest: Digest, holder: Store) -> None:
        """Take note that a store has a blob; who had it first is asked."""
        self._holders.setdefault(digest, holder)

    def open(self, descriptor: Descriptor, elsewhere: bool) -> Blob:  # noqa: FBT001
        """Open a blob, where it may be `elsewhere` in a region that has it."""
        holder = self._holders.get(descriptor.digest) if elsewhere else None
        copies = Copies(descriptor, [holder, self.origin] if holder else [self.origin], self._count)
        return Hashed(copies, descriptor, copies)

    def _count(self, store: Fetcher, size: int) -> None:
        with self._lock:
            self.read += size if store is self.origin else 0
            self.read_elsewhere += 0 if store is self.origin else size
