"""Push an artifact to registries, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Sequence

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import IfExists
from modelctl.core.errors import UsageProblem, failing
from modelctl.core.progress import Progress
from modelctl.core.reference import LATEST, Reference
from modelctl.flows.attached import ALL
from modelctl.flows.delivery import Delivery, Package, read_package
from modelctl.flows.stores import open_store, writing
from modelctl.flows.workers import Workers


class PushReport(msgspec.Struct, kw_only=True):
    """What went to one destination: digests of blobs sent, there already, and mounted; sizes in bytes."""

    reference: str
    digest: str
    tag: str
    size: int
    sent: list[str]
    skipped: list[str]
    mounted: list[str]
    tagged: bool


def push(
    source: Reference,
    destinations: Sequence[Reference],
    progress: Progress,
    *,
    if_exists: IfExists = "replace",
    jobs: int | None = None,
    attached: str = ALL,
    access: Access = DEFAULT,
    done: Callable[[PushReport], None] = lambda _report: None,
) -> list[PushReport]:
    """Copy the artifact `source` to each destination, one after the other, and what is `attached` to it.

    `done` is called with each that has it.

    Raises:
        Conflict: A tag points elsewhere, and `if_exists` is "fail". Nothing was sent to that destination.
        ModelctlError: Of whatever kind a store raises; its text says on which side. The tag was not touched.
    """
    package = read_package(source, access, attached)
    reports = []
    for destination in destinations:
        check_destination(destination)
        workers = Workers(jobs, progress, remote=bool(source.registry or destination.registry))
        reports.append(_push_one(package, destination, workers, if_exists, access))
        done(reports[-1])
    return reports


def check_destination(destination: Reference) -> None:
    """Refuse a reference that names what is to come by a digest."""
    if destination.digest:
        raise UsageProblem(f"cannot push to {destination}", why="a digest follows from the content", hint="name a tag")


def _push_one(
    package: Package, destination: Reference, workers: Workers, if_exists: IfExists, access: Access
) -> PushReport:
    store = open_store(destination, access)
    delivery = Delivery(package, store, destination.tag or LATEST, workers, if_exists)
    with failing("destination"), writing(store):
        delivery.bring()
        delivery.point()
    return PushReport(
        reference=f"{destination.store}@{package.root.digest}",
        digest=package.root.digest,
        tag=delivery.tag,
        size=package.size,
        sent=list(delivery.copied.sent),
        skipped=list(delivery.copied.skipped),
        mounted=list(delivery.copied.mounted),
        tagged=delivery.tagged,
    )
