"""Push an artifact to registries, one after the other."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Literal

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import IfExists
from modelctl.core.errors import Conflict, ModelctlError, UsageProblem, failing
from modelctl.core.progress import Progress
from modelctl.core.reference import LATEST, Reference
from modelctl.flows.attached import ALL
from modelctl.flows.delivery import Delivery, read_package
from modelctl.flows.stores import open_store, writing
from modelctl.flows.workers import Workers

State = Literal["Pushed", "Failed", "Untried"]
"""Untried: the tag of another destination must not be moved, so nothing was sent to any."""


class PushReport(msgspec.Struct, kw_only=True):
    """What went to one destination: digests of blobs sent, there already, and mounted; sizes in bytes.

    `reference` is by digest where it was pushed, else by tag. `code`, `why` and `hint` are of the error that ended it.
    """

    reference: str
    digest: str
    tag: str
    size: int
    sent: list[str]
    skipped: list[str]
    mounted: list[str]
    tagged: bool
    state: State = "Pushed"
    code: str = ""
    why: str = ""
    hint: str = ""


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
) -> tuple[list[PushReport], list[ModelctlError]]:
    """Copy the artifact `source` to each destination, one after the other, and what is `attached` to it.

    One that fails keeps no other from it; but when `if_exists` is "fail" and a tag points elsewhere, nothing is sent to
    any. `done` is called with each that has it.

    Returns:
        A report of each destination, and what ended those that failed; their tags were not touched.

    Raises:
        UsageProblem: A destination is named by a digest. Nothing was sent.
        ModelctlError: Of whatever kind: the source cannot be read. Nothing was sent.
    """
    for destination in destinations:
        check_destination(destination)
    package = read_package(source, access, attached)
    pushes = []
    for destination in destinations:
        workers = Workers(jobs, progress, remote=bool(source.registry or destination.registry))
        store = open_store(destination, access)
        pushes.append(_Push(destination, Delivery(package, store, destination.tag or LATEST, workers, if_exists)))
    progress.expect(len(pushes) * len(package.blobs), len(pushes) * package.size)
    if if_exists == "fail":
        for one in pushes:
            one.ask()
    if not any(isinstance(one.error, Conflict) for one in pushes):
        for one in pushes:
            one.run()
            if one.state == "Pushed":
                done(one.report())
    return [one.report() for one in pushes], [one.error for one in pushes if one.error]


def check_destination(destination: Reference) -> None:
    """Refuse a reference that names what is to come by a digest."""
    if destination.digest:
        raise UsageProblem(f"cannot push to {destination}", why="a digest follows from the content", hint="name a tag")


@dataclass
class _Push:
    """The artifact on its way to one destination; the error that ends it is kept."""

    destination: Reference
    delivery: Delivery
    state: State = "Untried"
    error: ModelctlError | None = None

    def ask(self) -> None:
        """Find out whether the tags may be set."""
        with self._until("Untried"):
            self.delivery.ask_for_tags()

    def run(self) -> None:
        """Bring the artifact, and tag it, unless it has failed."""
        if self.error:
            return
        with self._until("Pushed"), writing(self.delivery.store):
            self.delivery.bring()
            self.delivery.point()

    @contextmanager
    def _until(self, state: State) -> Iterator[None]:
        try:
            with failing("destination"):
                yield
            self.state = state
        except ModelctlError as error:
            self.state, self.error = "Failed", error

    def report(self) -> PushReport:
        delivery, package, error = self.delivery, self.delivery.package, self.error
        pushed, place = self.state == "Pushed", self.destination.store
        untried = "not tried: the tag of another destination must not move" if self.state == "Untried" else ""
        return PushReport(
            reference=f"{place}@{package.root.digest}" if pushed else f"{place}:{delivery.tag}",
            digest=package.root.digest,
            tag=delivery.tag,
            size=package.size,
            sent=list(delivery.copied.sent),
            skipped=list(delivery.copied.skipped),
            mounted=list(delivery.copied.mounted),
            tagged=pushed and delivery.tagged,
            state=self.state,
            code=error.code if error else "",
            why=error.seen if error else untried,
            hint=error.hint if error else "",
        )
