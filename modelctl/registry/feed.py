"""One blob on its way into several stores, each in threads of its own: nobody waits long for who is slow or fails.

What is written lies in a bounded queue until every store that takes part has sent it. One that costs the others too
much time is let go: it gets the blob later, from a store that has it by then.
"""

from __future__ import annotations

import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from functools import partial

from modelctl.core.chunks import BUFFER
from modelctl.core.errors import ModelctlError, Unavailable
from modelctl.core.media_types import OCI_LAYER
from modelctl.core.protocols import Blob
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest
from modelctl.registry.copy import Copied
from modelctl.registry.remote import RemoteStore

PIECE = 256 << 10
"""Bytes that are queued, and sent, at once."""

MEMORY = 16 << 20
"""What all queues hold [bytes]; with it each upload that is slow or stuck has one piece."""

NEAR = 32 << 20
"""A killed upload that is further behind another one of the blob is gone on with later, from there [bytes]."""

GRACE_S = 1.0
SHARE = 0.05
"""The others wait for one that is slower, in all, so long and this share of the time that has gone by."""

_LOOK_S = 0.05
"""Those who wait look so often whether that is worth it [s]."""

_Item = Callable[["_Carrier"], None]


@dataclass(eq=False)
class Member:
    """A store that takes part, called `name`.

    It has at most `slots` uploads at once. `copied` takes note of what became of blobs; `advance` is called with what
    moved [bytes], which is negative where an upload was given up, and `catch_up` with each blob that it is to get from
    another member, and the name of its upload; `stop` ends that. One that failed has an `error`, and takes no part.
    """

    name: str
    store: RemoteStore
    slots: int
    copied: Copied
    advance: Callable[[int], None]
    catch_up: Callable[[Descriptor, str], None]
    stop: Callable[[], None]
    error: ModelctlError | None = None
    busy: int = 0
    late: deque[tuple[Descriptor, str]] = field(default_factory=deque)
    threads: list[threading.Thread] = field(default_factory=list)
    since: dict[object, float] = field(default_factory=dict)
    sent: int = 0
    busy_s: float = 0.0
    waited_s: float = 0.0

    def rate(self) -> float:
        """Return how fast one upload of it is, on average [bytes/s]."""
        now = time.monotonic()
        return self.sent / max(self.busy_s + sum(now - since for since in self.since.values()), 1e-6)


class Crew:
    """The members of one job: who has a slot free, who has which blob, and how long all may wait for one.

    `written` counts what was given to them, once for all [bytes].
    """

    def __init__(self, most: int, uploads: int) -> None:
        """At most so many members take part at once, in at most so many uploads."""
        self.members: list[Member] = []
        self._most = most
        self.window = max(4, MEMORY // PIECE // uploads)
        self.lock = threading.Lock()
        self.freed = threading.Condition(self.lock)
        self.crash: Exception | None = None
        self.feeds = self.written = 0
        self._holders: dict[Digest, list[Member]] = {}
        self._began = time.monotonic()
        self._closed = False

    def active(self) -> list[Member]:
        """Return the members that take part.

        Raises:
            ModelctlError: All have failed; of their errors' kind when that is one.
        """
        live = [member for member in self.members if not member.error][: self._most]
        if live:
            return live
        raise all_failed({member.name: member.error for member in self.members if member.error})

    def note(self, digest: Digest, member: Member) -> None:
        """Take note that a member has a blob."""
        self._holders.setdefault(digest, []).append(member)

    def holders(self, digest: Digest) -> list[Member]:
        """Return the members that are known to have a blob."""
        return list(self._holders.get(digest, ()))

    def reserve(self, but: set[Member], most: int) -> list[Member]:
        """Take a slot of at most so many members; wait until one has a slot free. `ModelctlError` as `active`."""
        with self.lock:
            while True:
                free = [one for one in self.active() if one.busy < one.slots and one not in but][:most]
                if free:
                    break
                self.freed.wait(1.0)
            for member in free:
                member.busy += 1
        return free

    def release(self, member: Member) -> None:
        """Give a slot back; whoever has to catch up takes it first."""
        with self.lock:
            member.busy -= 1
            self._catch_up(member)
            self.freed.notify_all()

    def start(self, member: Member, work: Callable[[], None]) -> None:
        """Do `work` in a thread, in a slot that was reserved."""
        thread = threading.Thread(target=self._work, args=(member, work), name=f"to {member.name}")
        member.threads.append(thread)
        thread.start()

    def _work(self, member: Member, work: Callable[[], None]) -> None:
        try:
            work()
        except ModelctlError as error:
            member.error = member.error or error
        except Exception as error:
            self.crash = error
        self.release(member)

    def owe(self, member: Member, blob: Descriptor, name: str) -> None:
        """Let a member catch up on a blob as soon as it has a slot free. The lock is held."""
        member.late.append((blob, name))
        self._catch_up(member)

    def _catch_up(self, member: Member) -> None:
        while member.late and member.busy < member.slots and not self._closed and not member.error:
            member.busy += 1
            self.start(member, partial(member.catch_up, *member.late.popleft()))

    @contextmanager
    def at_work(self) -> Iterator[None]:
        """Begin nothing more when the `with` ends. When that is by an error, stop what is being done."""
        failed = True
        try:
            yield
            failed = False
        finally:
            with self.lock:
                self._closed = True
            for member in self.members if failed else ():
                member.stop()
            for member in self.members if failed else ():
                self.join(member)

    def join(self, member: Member) -> None:
        """Wait until a member does nothing any more."""
        for thread in list(member.threads):
            thread.join()

    def wait(self, condition: threading.Condition, behind: Sequence[Member], ahead: Sequence[Member]) -> set[Member]:
        """Wait a moment for those who are behind, while others have nothing to do; return those not worth it any more.

        For one as fast it costs nothing, since each is behind at times; for one half as fast half of the time.
        """
        began = time.monotonic()
        most = GRACE_S + SHARE * (began - self._began)
        spent = {member for member in behind if member.waited_s > most}
        if not spent:
            condition.wait(_LOOK_S)
            waited_s = (time.monotonic() - began) / max(1, self.feeds)
            fastest = max(1.0, *(member.rate() for member in ahead))
            for member in behind:
                member.waited_s += max(0.0, 1 - member.rate() / fastest) * waited_s
        return spent


class Feed:
    """An `Upload` to those members of a crew that have a slot free; the others get the blob later.

    It begins where a killed one was. Its one writer waits for the slowest member that takes part, within reason.
    """

    def __init__(self, crew: Crew, blob: Blob, name: str) -> None:
        self._crew, self._blob, self._name = crew, blob, name
        self._changed = threading.Condition(crew.lock)
        self._carriers: list[_Carrier] = []
        self._end: _Item | None = None
        self._sealed: Descriptor | None = None
        self._enlist(len(crew.members))
        self.saved: Sequence[Checkpoint] = min((one.saved for one in self._carriers), key=_reach)
        self._position = _reach(self.saved)
        with crew.lock:
            crew.feeds += 1

    def write(self, data: Bytes) -> None:
        view = memoryview(data)
        with self._crew.lock:
            self._crew.written += len(view)
        for start in range(0, len(view), PIECE):
            piece = bytes(view[start : start + PIECE])
            self._give(partial(_Carrier.write, offset=self._position, piece=piece))
            self._position += len(piece)

    def save(self, checkpoint: Checkpoint) -> None:
        self._give(partial(_Carrier.save, checkpoint=checkpoint))

    def commit(self, digest: Digest) -> bool:
        """Make the blob durable where it was written; what was let go catches up from there.

        Returns:
            Whether none of the members had had it.
        """
        self._end = partial(_Carrier.commit, digest=digest)
        self._give(self._end)
        self._wait_for(lambda carrier: carrier.done)
        with self._crew.lock:
            done = [one for one in self._carriers if one.done]
            self._sealed = Descriptor(media_type=OCI_LAYER, digest=digest, size=self._blob.size)
            here = {one.member for one in self._carriers if one.done or one.alive}
            for member in self._crew.active():
                if member not in here:
                    self._crew.owe(member, self._sealed, self._name)
        return all(one.new for one in done)

    def close(self) -> None:
        """Let all go that still take part."""
        with self._crew.lock:
            self._crew.feeds -= 1
            for carrier in self._carriers:
                carrier.let_go()

    def ended(self, carrier: _Carrier) -> None:
        """Take note that a carrier's thread is through; it catches up when the blob was written without it."""
        with self._crew.lock:
            carrier.alive = carrier.live = False
            carrier.member.since.pop(carrier, None)
            if self._sealed and not carrier.done and not carrier.failed:
                self._crew.owe(carrier.member, self._sealed, self._name)
            self._changed.notify_all()

    def moved(self) -> None:
        """Wake the writer; the lock is held."""
        self._changed.notify_all()

    def _enlist(self, most: int) -> None:
        """Begin, or go on, with at most so many members that have a slot free."""
        members = self._crew.reserve({one.member for one in self._carriers if one.alive}, most)
        carriers = [_Carrier(self._crew, member, self, self._blob, self._name) for member in members]
        furthest = max(carrier.position for carrier in carriers)
        for carrier in carriers:
            if carrier.position < furthest - NEAR:
                carrier.close()
                self._crew.release(carrier.member)
                continue
            self._carriers.append(carrier)
            if self._end:
                carrier.items.append(self._end)
            self._crew.start(carrier.member, carrier.run)

    def _give(self, item: _Item) -> None:
        self._wait_for(lambda carrier: len(carrier.items) < self._crew.window)
        with self._crew.lock:
            for carrier in self._carriers:
                carrier.take(item)

    def _wait_for(self, ready: Callable[[_Carrier], bool]) -> None:
        """Wait until all who take part are ready, and somebody is; let those go for whom it is not worth it."""
        while True:
            with self._crew.lock:
                if self._crew.crash:
                    raise self._crew.crash
                live = [one for one in self._carriers if one.live]
                done = [one for one in self._carriers if one.done]
                behind = [one for one in live if not ready(one)]
                if live or done:
                    if not behind:
                        return
                    self._wait(behind, [*done, *(one for one in live if one.idle)])
                    continue
            self._enlist(1)

    def _wait(self, behind: Sequence[_Carrier], ahead: Sequence[_Carrier]) -> None:
        if not ahead:
            self._changed.wait(1.0)
            return
        spent = self._crew.wait(self._changed, [one.member for one in behind], [one.member for one in ahead])
        for carrier in behind:
            carrier.let_go() if carrier.member in spent else None


class _Carrier:
    """One member's part of an upload: does what it is given, in order.

    `live` takes items; `alive` has a thread. `position` is how far the member is [bytes].
    """

    def __init__(self, crew: Crew, member: Member, feed: Feed, blob: Blob, name: str) -> None:
        self.member, self.items = member, deque[_Item]()
        self.live = self.alive = True
        self.done = self.new = self.failed = False
        self._crew, self._feed, self._blob = crew, feed, blob
        self._given = threading.Condition(crew.lock)
        self._stack = ExitStack()
        self._upload = self._stack.enter_context(member.store.upload(blob, name))
        self.saved = self._upload.saved
        self.position = _reach(self.saved)
        self._shown = 0
        self._busy = True

    @property
    def idle(self) -> bool:
        """Whether it has nothing to do but to wait for more."""
        return not self._busy and not self.items

    def take(self, item: _Item) -> None:
        """Put an item last; the lock is held."""
        if self.live:
            self.items.append(item)
            self._given.notify()

    def let_go(self) -> None:
        """End after what is being done; the lock is held."""
        self.live = False
        self.items.clear()
        self._given.notify()

    def run(self) -> None:
        try:
            with self._stack:
                while item := self._next():
                    item(self)
        except ModelctlError as error:
            self.failed, self.member.error = True, error
        finally:
            self.member.copied.sizes.append(self._upload.sent)
            if not self.done:
                self._show(0)
            self._feed.ended(self)

    def close(self) -> None:
        """Give up before it began."""
        self._stack.close()

    def _next(self) -> _Item | None:
        with self._crew.lock:
            began = self.member.since.pop(self, None)
            self.member.busy_s += time.monotonic() - began if began else 0.0
            self._busy = False
            self._feed.moved()
            while self.live and not self.items:
                self._given.wait()
            if not self.live:
                return None
            self._busy = True
            self.member.since[self] = time.monotonic()
            return self.items.popleft()

    def write(self, offset: int, piece: bytes) -> None:
        self._fill(offset)
        data = memoryview(piece)[self.position - offset :]
        self._upload.write(data)
        self.position += len(data)
        self.member.sent += len(data)
        self._show(self.position)

    def save(self, checkpoint: Checkpoint) -> None:
        if checkpoint.position > _reach(self.saved):
            self._upload.save(checkpoint)

    def commit(self, digest: Digest) -> None:
        self._fill(self._blob.size)
        self.new = self._upload.commit(digest)
        (self.member.copied.sent if self.new else self.member.copied.skipped).append(digest)
        self._crew.note(digest, self.member)
        with self._crew.lock:
            self.done, self.live = True, False

    def _fill(self, end: int) -> None:
        """Read again what was written before this member took part."""
        while self.position < end:
            data = bytearray(min(BUFFER, end - self.position))
            self._blob.read_into(self.position, memoryview(data))
            self._upload.write(data)
            self.position += len(data)

    def _show(self, position: int) -> None:
        self.member.advance(position - self._shown)
        self._shown = position


def _reach(saved: Sequence[Checkpoint]) -> int:
    return saved[-1].position if saved else 0


def all_failed(errors: Mapping[str, ModelctlError]) -> ModelctlError:
    """Return the error of a job whose every member failed: of their kind, when that is one."""
    kinds = {type(error) for error in errors.values()}
    lines = [": ".join(filter(None, (name, error.what, error.why))) for name, error in errors.items()]
    hints = [f"{name}: {error.hint}" for name, error in errors.items() if error.hint]
    kind = kinds.pop() if len(kinds) == 1 else Unavailable
    return kind(
        f"none of {len(errors)} regions is left",
        why="\n       ".join(lines),
        hint="\n       ".join([*hints, "the same command sends what is missing"]),
    )
