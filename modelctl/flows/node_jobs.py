"""A Job for each of some nodes: started a few at a time, followed by one watch, explained when it does not move."""

from __future__ import annotations

import re
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from threading import Event

import msgspec

from modelctl.cluster.api import Cluster
from modelctl.cluster.explain import explain_job
from modelctl.cluster.following import Followed
from modelctl.cluster.labels import Object
from modelctl.cluster.outcome import Outcome, outcome
from modelctl.cluster.preloading import Preload, selector_of
from modelctl.core.errors import Denied, Invalid, NotFound

TICK_S = 1.0
_EVENTS_S = 5.0
_NODES_S = 30.0
_PATIENCE_S = 3.0
_WRITERS = 8


class NodeRow(msgspec.Struct, kw_only=True):
    """How a node is; sizes in bytes, `seconds` since its Job was started, `attempts` counts pods."""

    name: str
    state: str
    size: int = 0
    resident: int = 0
    seconds: float = 0.0
    attempts: int = 0
    why: str = ""
    hint: str = ""


Tell = Callable[[NodeRow], None]
"""Is told of a node whose row changed in more than its seconds."""


@dataclass(frozen=True, kw_only=True)
class Limits:
    """How far to go: nodes at once, until when (`time.monotonic`), and an event that says: end now."""

    parallelism: int
    deadline: float
    stop: Event

    @property
    def over(self) -> bool:
        return self.stop.is_set() or time.monotonic() > self.deadline


@dataclass
class _Started:
    """A node whose Job was started `at` a time, and again `since` another; `asked` is when it was last looked for."""

    row: NodeRow
    job: Object
    at: float = field(default_factory=time.monotonic)
    since: float = field(default_factory=time.monotonic)
    on_disk: bool = False
    asked: float = 0.0

    @property
    def name(self) -> str:
        return str(self.job["metadata"]["name"])

    @property
    def uid(self) -> str:
        return str(self.job["metadata"]["uid"])


class NodeJobs:
    """Jobs of one kind for nodes of one cluster."""

    def __init__(
        self,
        cluster: Cluster,
        preload: Preload,
        followed: Followed,
        make: Callable[[Preload, str], Object],
        selector: str = "",
    ) -> None:
        """Take what `make` makes for the name of a node, one of `selector`; `followed` shows its pods."""
        self._cluster, self._preload, self._followed, self._make = cluster, preload, followed, make
        self._selector = selector
        self._events: list[Object] = []
        self._jobs: dict[str, Object] = {}
        self._nodes: dict[str, Object] = {}
        self._events_at = self._jobs_at = self._nodes_at = 0.0

    def start(self, rows: Sequence[NodeRow], tell: Tell, *, dry_run: bool = False) -> list[tuple[NodeRow, Object]]:
        """Apply the Jobs of `rows`; return those that the cluster took. The rows of others say why not."""
        with ThreadPoolExecutor(_WRITERS) as pool:
            found = list(pool.map(lambda row: self._apply(row, dry_run=dry_run), rows))
        for row in rows:
            tell(row)
        return [(row, job) for row, job in zip(rows, found, strict=True) if job]

    def run(
        self, rows: Iterable[NodeRow], limits: Limits, tell: Tell, proved: Callable[[NodeRow, Outcome], None]
    ) -> None:
        """Start the Jobs, a few at a time, and follow them until each has ended or the limits are reached.

        Args:
            rows: Of the nodes; they are kept up to date.
            limits: What is not done by the deadline ends in state TimedOut; its Job has a deadline of its own.
            tell: Told of each change.
            proved: Told of what an outcome proves: once that the files are on disk, once that it is done.
        """
        queue, running = deque(rows), list[_Started]()
        while (queue or running) and not limits.over:
            free = [queue.popleft() for _ in range(min(len(queue), limits.parallelism - len(running)))]
            running += [_Started(row, job) for row, job in self.start(free, tell)]
            pods = _by_owner(self._followed.next(TICK_S))
            running = [one for one in running if not self._ended(one, pods.get(one.uid, []), tell, proved)]
        if not limits.stop.is_set():
            for row in [*queue, *(one.row for one in running)]:
                row.state, row.why = "TimedOut", row.why or f"it was still {row.state} when the time was over"
                tell(row)

    def _apply(self, row: NodeRow, *, dry_run: bool) -> Object | None:
        """Apply a node's Job; one of an earlier run that has failed, or that is another, is replaced."""
        job = self._make(self._preload, row.name)
        row.why, row.hint = "", ""
        try:
            applied = self._applied(job, dry_run=dry_run)
        except (Denied, Invalid, NotFound) as error:
            row.state, row.why, row.hint = "Failed", error.why, error.hint
            return None
        row.state = "Waiting"
        return applied

    def _applied(self, job: Object, *, dry_run: bool) -> Object:
        try:
            applied = self._cluster.apply(job, dry_run=dry_run)
        except Invalid:
            if dry_run or not self._delete(job):
                raise
            return self._cluster.apply(job)
        failed = not dry_run and _condition(applied, "Failed")
        return self._again(job) if failed else applied

    def _again(self, job: Object) -> Object:
        self._delete(job)
        return self._cluster.apply(job)

    def _delete(self, job: Object) -> bool:
        return self._cluster.delete("Job", self._preload.namespace, job["metadata"]["name"])

    def _ended(
        self, one: _Started, own: Sequence[Object], tell: Tell, proved: Callable[[NodeRow, Outcome], None]
    ) -> bool:
        """Bring a row up to date by the pods of its Job; say whether that needs no more looking at."""
        row = one.row
        before = visible(row)
        row.seconds = round(time.monotonic() - one.at, 1)
        ended = self._judged(one, own, proved) if own else self._without_pod(one, proved)
        if visible(row) != before:
            tell(row)
        return ended

    def _judged(self, one: _Started, own: Sequence[Object], proved: Callable[[NodeRow, Outcome], None]) -> bool:
        row = one.row
        newest = max(own, key=lambda pod: (pod["metadata"]["creationTimestamp"], pod["metadata"]["name"]))
        found = outcome(newest, self._recent_events(row), self._preload, self._recent_node(row))
        row.attempts, row.state, row.why, row.hint = len(own), found.state, found.why, found.hint
        row.size, row.resident = found.size, found.resident
        done = found.state in ("Warm", "Removed")
        if done or (found.disk and not one.on_disk):
            one.on_disk = found.disk
            try:
                proved(row, found)
            except NotFound as error:
                row.state, row.why, row.hint = "Failed", error.why, "the node is not there any more"
                done = True
        if done:
            self._delete(one.job)
        elif found.state == "Failed":
            return self._failed(one)
        return done

    def _failed(self, one: _Started) -> bool:
        """Say whether the Job of a pod that failed has given up; else it tries again.

        One that is content with a pod that proved nothing goes, so that the next run starts another.
        """
        job = self._asked(one)
        failed = _condition(job, "Failed") if job else {}
        if failed.get("reason") == "DeadlineExceeded":
            return self._restarted(one)
        if job and _condition(job, "Complete"):
            self._delete(job)
            return True
        if not failed:
            one.row.state = "Retrying"
        return bool(failed)

    def _without_pod(self, one: _Started, proved: Callable[[NodeRow, Outcome], None]) -> bool:
        """Find out why a Job has no pod; say whether it has ended. A watch may be silent about one that there is."""
        row = one.row
        job = self._asked(one)
        if job is None:
            return False
        if not job or job["metadata"]["uid"] != one.uid:
            row.state, row.why, row.hint = "Deleted", f"somebody deleted Job {one.name}", "the same command again"
            return True
        if _condition(job, "Complete"):
            pods = self._cluster.pods(self._preload.namespace, f"batch.kubernetes.io/job-name={one.name}")
            own = _by_owner(pods).get(one.uid, [])
            return self._judged(one, own, proved) if own else self._restarted(one)
        if _condition(job, "Failed").get("reason") == "DeadlineExceeded":
            return self._restarted(one)
        events = self._recent_events(row)
        own = [event for event in events if event.get("involvedObject", {}).get("uid") == one.uid]
        explained = explain_job(one.name, own)
        row.why, row.hint = explained.why, explained.hint
        if not re.search("violates PodSecurity", row.why):
            return False
        row.state = "Failed"
        return self._delete(one.job)

    def _restarted(self, one: _Started) -> bool:
        """Start the Job anew: what ended without a pod, or by a deadline that is not ours, is of an earlier run."""
        one.job = self._again(self._make(self._preload, one.row.name))
        one.since = time.monotonic()
        one.row.state, one.row.why, one.row.hint = "Waiting", "", ""
        return False

    def _asked(self, one: _Started) -> Object | None:
        """Look for a Job in a list of all, made now and then: empty when it is gone, None without a new list."""
        now = time.monotonic()
        if now - one.since < _PATIENCE_S:
            return None
        if self._jobs_at < one.since or now - self._jobs_at > _PATIENCE_S:
            found = self._cluster.jobs(self._preload.namespace, selector_of(self._preload.digest))
            self._jobs, self._jobs_at = {job["metadata"]["name"]: job for job in found}, now
        if one.asked == self._jobs_at:
            return None
        one.asked = self._jobs_at
        return self._jobs.get(one.name, {})

    def _recent_events(self, row: NodeRow) -> list[Object]:
        """Return the namespace's events: asked for now and then, once somebody has waited a while."""
        now = time.monotonic()
        if row.seconds > _PATIENCE_S and row.state != "Warming" and now - self._events_at > _EVENTS_S:
            self._events_at = now
            self._events = self._cluster.events(self._preload.namespace)
        return self._events

    def _recent_node(self, row: NodeRow) -> Object | None:
        """Return a node as it was a while ago: all are listed now and then, sooner where a pod found no place."""
        now = time.monotonic()
        patience = _EVENTS_S if row.state == "Waiting" else _NODES_S
        if row.seconds > patience and now - self._nodes_at > _NODES_S:
            self._nodes_at = now
            self._nodes = {node["metadata"]["name"]: node for node in self._cluster.nodes(self._selector)}
        return self._nodes.get(row.name)


def visible(row: NodeRow) -> tuple[object, ...]:
    """Return what of a row is worth telling."""
    return row.state, row.size, row.resident, row.attempts, row.why, row.hint


def _by_owner(pods: Iterable[Object]) -> dict[str, list[Object]]:
    """Sort pods by the uid of what owns them."""
    found: dict[str, list[Object]] = defaultdict(list)
    for pod in pods:
        owners: list[Object] = pod["metadata"].get("ownerReferences") or [{}]
        found[owners[0].get("uid", "")].append(pod)
    return found


def has_ended(job: Object) -> bool:
    """Say whether a Job has done its work, or has given up."""
    return bool(_condition(job, "Complete") or _condition(job, "Failed"))


def _condition(job: Object, kind: str) -> Object:
    conditions = job.get("status", {}).get("conditions") or []
    return next((found for found in conditions if found["type"] == kind and found["status"] == "True"), {})
