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
from typing import cast

from modelctl.core.chunks import BUFFER
from modelctl.core.disk import on_disk
from modelctl.core.errors import ModelctlError, Partial, failing
from modelctl.core.media_types import OCI_LAYER
from modelctl.core.protocols import Blob
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest
from modelctl.registry.copy import Copied
from modelctl.registry.remote import RemoteStore
from modelctl.registry.waiting import LOOK_S, Credit, Speed

PIECE = 256 << 10
"""Bytes that are queued, and sent, at once; fewer where there are many uploads."""

FEWEST = 4
"""Pieces that a queue holds at least."""

MEMORY = 16 << 20
"""What all queues hold [bytes]; with it each upload that is slow or stuck has one piece."""

NEAR = 32 << 20
"""A killed upload that is further behind another one of the blob is gone on with later, from there [bytes]."""

_Item = Callable[["_Carrier"], None]


@dataclass(eq=False)
class Member:
    """A store that takes part, called `name`.

    It has at most `slots` uploads at once. `copied` takes note of what became of blobs; `begin` is called before each
    upload, `advance` with what moved [bytes], which is negative where an upload was given up, and `catch_up` with each
    blob that it is to get from another member, and the name of its upload; `stop` ends that. One that failed has an
    `error`, and takes no part. `credit` is what is left of the time that the others wait for it.
    """

    name: str
    store: RemoteStore
    slots: int
    copied: Copied
    advance: Callable[[int], None]
    catch_up: Callable[[Descriptor, str], None]
    stop: Callable[[], None]
    begin: Callable[[], None] = lambda: None
    error: ModelctlError | None = None
    busy: int = 0
    late: deque[tuple[Descriptor, str]] = field(default_factory=deque)
    threads: list[threading.Thread] = field(default_factory=list)
    speed: Speed = field(default_factory=Speed)
    credit: Credit = field(default_factory=Credit)


class NoneLeft(ModelctlError):
    """All members have failed. Its `code` and status are theirs when they have the same, else those of `Partial`."""

    def __init__(self, errors: Mapping[str, ModelctlError]) -> None:
        lines = [": ".join(filter(None, (name, error.what, error.why))) for name, error in errors.items()]
        hints = [f"{name}: {error.hint}" for name, error in errors.items() if error.hint]
        super().__init__(
            f"none of {len(errors)} regions is left",
            why="\n       ".join(lines),
            hint="\n       ".join([*hints, "the same command sends what is missing"]),
        )
        kinds = {error.exit_status: error.code for error in errors.values()}
        kinds = kinds if len(kinds) == 1 else {Partial.exit_status: Partial.code}
        ((self.exit_status, self.code),) = kinds.items()


class SourceFailed(Exception):
    """What is sent could not be read again, which is no member's failure. Never reaches the user."""


class Crew:
    """The members of one job: who has a slot free, who has which blob, and how long all may wait for one."""

    def __init__(self, most: int, uploads: int) -> None:
        """At most so many members take part at once, in at most so many uploads."""
        self.members: list[Member] = []
        self._most = most
        self.piece = max(1, min(PIECE, MEMORY // FEWEST // uploads))
        self.window = max(FEWEST, MEMORY // self.piece // uploads)
        self.lock = threading.Lock()
        self.freed = threading.Condition(self.lock)
        self.crash: Exception | None = None
        self.feeds = 0
        self._holders: dict[Digest, list[Member]] = {}
        self._closed = False

    def active(self) -> list[Member]:
        """Return the members that take part; `NoneLeft` when all have failed."""
        live = [member for member in self.members if not member.error][: self._most]
        if live:
            return live
        raise NoneLeft({member.name: member.error for member in self.members if member.error})

    def note(self, digest: Digest, member: Member) -> None:
        """Take note that a member has a blob."""
        self._holders.setdefault(digest, []).append(member)

    def holders(self, digest: Digest) -> list[Member]:
        """Return the members that are known to have a blob."""
        return list(self._holders.get(digest, ()))

    def reserve(self, but: Callable[[], set[Member]], most: int) -> list[Member]:
        """Take a slot of at most so many members, none that is among `but` by then; wait until one has a slot free.

        Raises:
            NoneLeft: All have failed.
        """
        with self.lock:
            while True:
                if self.crash:
                    raise self.crash
                taken = but()
                free = [one for one in self.active() if one.busy < one.slots and one not in taken][:most]
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
            member.begin()
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

        The lock is held.
        """
        spent = {member for member in behind if member.credit.left_s() < 0}
        if not spent:
            began = time.monotonic()
            condition.wait(LOOK_S)
            waited_s = (time.monotonic() - began) / max(1, self.feeds)
            fastest = max(member.speed.rate() for member in ahead)
            for member in behind:
                member.credit.spend(waited_s, member.speed.rate(), fastest)
        return spent


class Feed:
    """An `Upload` to those members of a crew that have a slot free; the others get the blob later.

    It begins where a killed one was. Its one writer waits for the slowest member that takes part, within reason.
    Checkpoints are kept by those who have had all of them: one that joins later has none, or the first of them.
    """

    def __init__(self, crew: Crew, blob: Blob, name: str) -> None:
        self._crew, self._blob, self._name = crew, _Again(blob), name
        self._changed = threading.Condition(crew.lock)
        self._carriers: list[_Carrier] = []
        self._end: _Item | None = None
        self._sealed: Descriptor | None = None
        self._kept = 0
        self._enlist(len(crew.members))
        self.saved: Sequence[Checkpoint] = min((one.saved for one in self._carriers), key=_reach)
        self._position = self._kept = _reach(self.saved)
        with crew.lock:
            crew.feeds += 1

    def write(self, data: Bytes) -> None:
        view, size = memoryview(data), self._crew.piece
        for start in range(0, len(view), size):
            piece = bytes(view[start : start + size])
            self._give(partial(_Carrier.write, offset=self._position, piece=piece))
            self._position += len(piece)

    def save(self, checkpoint: Checkpoint) -> None:
        self._give(partial(_Carrier.save, checkpoint=checkpoint))
        self._kept = checkpoint.position

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
            carrier.member.speed.end(carrier, 0)
            if self._sealed and not carrier.done and not carrier.failed:
                self._crew.owe(carrier.member, self._sealed, self._name)
            self._changed.notify_all()

    def moved(self) -> None:
        """Wake the writer; the lock is held."""
        self._changed.notify_all()

    def _enlist(self, most: int) -> None:
        """Begin, or go on, with at most so many members that have a slot free."""
        carriers: list[_Carrier] = []
        while not carriers:
            members = self._crew.reserve(lambda: {one.member for one in self._carriers if one.alive}, most)
            carriers = [carrier for member in members if (carrier := self._join(member))]
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

    def _join(self, member: Member) -> _Carrier | None:
        """Return the part of a member, in the slot reserved for it; None when it fails at that."""
        try:
            with on_disk(f"the journal of an upload to {member.name}"):
                carrier = _Carrier(self._crew, member, self, self._blob, self._name)
        except ModelctlError as error:
            member.error = member.error or error
            self._crew.release(member)
            return None
        carrier.has_all = carrier.position >= self._kept
        return carrier

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

    `live` takes items; `alive` has a thread. `position` is how far the member is [bytes]. `has_all` says whether no
    checkpoint came before it joined that it has not.
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
        self.position = self._from = _reach(self.saved)
        self.has_all = True
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
        except SourceFailed as error:
            self._crew.crash = self._crew.crash or cast(ModelctlError, error.__cause__)
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
            self.member.speed.end(self, self.position - self._from)
            self._busy = False
            self._feed.moved()
            while self.live and not self.items:
                self._given.wait()
            if not self.live:
                return None
            self._busy = True
            self._from = self.position
            self.member.speed.begin(self)
            return self.items.popleft()

    def write(self, offset: int, piece: bytes) -> None:
        self._fill(offset)
        data = memoryview(piece)[self.position - offset :]
        self._upload.write(data)
        self.position += len(data)
        self._show(self.position)

    def save(self, checkpoint: Checkpoint) -> None:
        if self.has_all and checkpoint.position > _reach(self.saved):
            self._upload.save(checkpoint)

    def commit(self, digest: Digest) -> None:
        self._fill(self._blob.size)
        self._show(self.position)
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


class _Again:
    """A blob that is read again; what fails then is not the member's who is sent it."""

    def __init__(self, blob: Blob) -> None:
        self._blob, self.size = blob, blob.size

    def read_into(self, offset: int, buffer: memoryview) -> None:
        try:
            with failing("source"):
                self._blob.read_into(offset, buffer)
        except ModelctlError as error:
            raise SourceFailed from error

    def close(self) -> None:
        self._blob.close()


def _reach(saved: Sequence[Checkpoint]) -> int:
    return saved[-1].position if saved else 0
