"""Blobs read once for several who copy them at about the same time, each at its own pace.

What was read lies in a bounded number of blocks of memory until all who copy the blob have had it. Whoever is so far
behind that the others would have to wait is let go, and reads on from a member that has the blob, once there is one;
where that would take too long, by itself.
"""

from __future__ import annotations

import math
import mmap
import threading
import time
from collections import defaultdict, deque
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from modelctl.core.protocols import Blob
from modelctl.core.types import Descriptor, Digest
from modelctl.registry.waiting import LOOK_S, Credit, Speed

BLOCK = 128 << 10
"""Bytes read, and sent, at once."""

BLOCKS = 128
"""So many blocks there are at most: 16 MiB. More where that would not be one for each reader and `_SPARE`."""

_SPARE = 64

PATIENCE_S = 30.0
"""Who was let go waits so long for a member to have the blob; less than the minute after which servers hang up."""

STALL_S = 10.0
"""Nobody waits for one who has taken nothing for so long: time for a registry to hash what it got."""

Opener = Callable[[Descriptor, bool], Blob]
"""Opens a blob. The flag says whether somebody has read of it already, so that it may be had elsewhere."""


class SharedReads:
    """The blobs of one artifact for the members of one job. Thread-safe."""

    def __init__(self, open_blob: Opener, readers: int, patience_s: float = PATIENCE_S) -> None:
        """Read with `open_blob`, for at most so many `readers` at once, of which one waits so long for a copy."""
        self._open, self._patience_s = open_blob, patience_s
        self._lock = threading.Lock()
        self._freed = threading.Condition(self._lock)
        self._most, self._made = max(BLOCKS, readers + _SPARE), 0
        self._unused: list[_Block] = []
        self._members: set[str] = set()
        self._settled: dict[Digest, set[str]] = defaultdict(set)
        self._groups: dict[Digest, list[_Group]] = defaultdict(list)
        self._pace: dict[str, _MemberPace] = defaultdict(_MemberPace)

    @property
    def memory(self) -> int:
        """What all blocks take [bytes]; it does not shrink."""
        return self._made * BLOCK

    @contextmanager
    def member(self, name: str) -> Iterator[None]:
        """Expect `name` to read every blob, but for those that it settles, until the `with` ends."""
        with self._lock:
            self._members.add(name)
        try:
            yield
        finally:
            with self._lock:
                self._members.discard(name)
                for digest in self._groups:
                    self._expect_no_more(name, digest)

    def settle(self, name: str, digest: Digest) -> None:
        """Take note that a member does not need to read a blob, or not any more."""
        with self._lock:
            self._settled[digest].add(name)
            self._expect_no_more(name, digest)

    def open(self, name: str, descriptor: Descriptor) -> SharedBlob:
        """Open a blob for a member."""
        with self._lock:
            self._pace[name].readers += 1
        return SharedBlob(self, name, descriptor)

    def open_alone(self, descriptor: Descriptor) -> Blob:
        """Open a blob for one who has to read it again."""
        return self._open(descriptor, False)  # noqa: FBT003

    def lend(self, reader: SharedBlob, position: int) -> memoryview:
        """Return the bytes from `position` on, at least one, good until the same reader's next call.

        Raises:
            ModelctlError: As reading the blob does.
        """
        with self._lock:
            self._give_back(reader)
            reader.position = position
            self._trim(reader.group)
            while True:
                found = self._step(reader)
                if found:
                    return found

    def leave(self, reader: SharedBlob) -> None:
        """End a reader."""
        with self._lock:
            self._give_back(reader)
            self._pace[reader.name].readers -= 1
            if reader.group and reader in reader.group.readers:
                reader.group.readers.remove(reader)
            self._trim(reader.group)

    def _step(self, reader: SharedBlob) -> memoryview | None:
        """Return what the reader is to have; or do, or await, one thing that brings that nearer."""
        group = self._group_of(reader)
        if group is None:
            self._freed.wait(LOOK_S)
            return None
        block = group.block_at(reader.position)
        if block:
            reader.block = block
            block.users += 1
            self._pace[reader.name].speed.begin(reader)
            group.lent = time.monotonic()
            return block.data[reader.position - block.offset : block.length]
        if group.error:
            raise group.error
        if group.reading:
            group.changed.wait()
        elif group.begun or self._begin(group, self._pace[reader.name]):
            block = self._take(self._pace[reader.name])
            if block:
                self._fill(group, block)
        return None

    def _group_of(self, reader: SharedBlob) -> _Group | None:
        """Return those with whom the reader reads: as before, else others who are where it is, else a new group.

        None while it is better to wait for those who are ahead: they will have the blob.
        """
        if reader.group and reader in reader.group.readers:
            return reader.group
        groups = self._groups[reader.descriptor.digest]
        lead = 0 if reader.group else BLOCK * BLOCKS
        group = next((group for group in groups if group.has_room_at(reader.position, lead)), None)
        if group is None and self._is_to_wait(reader):
            return None
        if group is None:
            group = self._new_group(reader)
        group.readers.append(reader)
        reader.group = group
        self._expect_no_more(reader.name, reader.descriptor.digest)
        return group

    def _is_to_wait(self, reader: SharedBlob) -> bool:
        """Say whether somebody who is ahead of a reader will soon be the first to have the blob."""
        digest = reader.descriptor.digest
        ahead = [group for group in self._groups[digest] if group.end > reader.position]
        return not self._settled[digest] and any(group.left_s() < self._patience_s for group in ahead)

    def _new_group(self, reader: SharedBlob) -> _Group:
        """Start to read a blob. Of one who only begins, the others who have to read it are expected to follow."""
        digest = reader.descriptor.digest
        groups = self._groups[digest]
        group = _Group(self._open(reader.descriptor, bool(groups)), self._lock)
        if reader.group is None:
            reading = {one.name for other in groups for one in other.readers}
            group.expected = self._members - self._settled[digest] - reading
        groups.append(group)
        return group

    def _begin(self, group: _Group, pace: _MemberPace) -> bool:
        """Begin where the last of the readers is: of uploads that are gone on with none is at byte 0.

        Then it is worth waiting for all; at byte 0 those who come later find its blocks.
        """
        goes_on = min(one.position for one in group.readers) > 0
        if goes_on and group.expected and pace.credit.left_s() > 0:
            pace.wait(group.changed, 0.0)
            return False
        group.begin()
        return True

    def _take(self, pace: _MemberPace) -> _Block | None:
        """Return a block to fill; or wait for one, or let those go who hold most, and return None."""
        if self._unused:
            return self._unused.pop()
        if self._made < self._most:
            self._made += 1
            return _Block()
        group = max((group for groups in self._groups.values() for group in groups), key=_Group.idle)
        if not group.idle():
            self._freed.wait()
        elif pace.credit.left_s() > 0:
            slowest = min(self._pace[name].speed.rate() for name in group.last())
            pace.wait(self._freed, slowest)
        else:
            group.drop_last()
            self._trim(group)
        return None

    def _fill(self, group: _Group, block: _Block) -> None:
        """Read the group's next bytes, while the others go on."""
        block.offset, block.length = group.end, min(BLOCK, group.blob.size - group.end)
        group.reading = True
        self._lock.release()
        try:
            group.blob.read_into(block.offset, block.data[: block.length])
        except Exception as error:
            group.error = error
        finally:
            self._lock.acquire()
            group.reading = False
            group.changed.notify_all()
        if group.error:
            self._free(block)
        else:
            group.add(block)
            self._trim(group)

    def _give_back(self, reader: SharedBlob) -> None:
        block, reader.block = reader.block, None
        if block:
            self._pace[reader.name].speed.end(reader, block.length)
            block.users -= 1
            self._free(block)
            self._freed.notify_all()

    def _trim(self, group: _Group | None) -> None:
        """Free the blocks that no reader of the group needs any more."""
        for block in group.passed() if group else ():
            self._free(block)

    def _free(self, block: _Block) -> None:
        """Let a block be filled again, once nobody has it."""
        if not block.users and not block.kept:
            self._unused.append(block)
            self._freed.notify_all()

    def _expect_no_more(self, name: str, digest: Digest) -> None:
        for group in self._groups[digest]:
            group.expected.discard(name)
            group.changed.notify_all()
            self._trim(group)


class SharedBlob:
    """A blob for one who reads it in order, by `pieces`; `read_into` is for what has to be read again.

    The rest is for `SharedReads`: those it reads with, where it is, and the block that it has.
    """

    def __init__(self, reads: SharedReads, name: str, descriptor: Descriptor) -> None:
        self.size, self.name, self.descriptor = descriptor.size, name, descriptor
        self.group: _Group | None = None
        self.position = 0
        self.block: _Block | None = None
        self._reads = reads
        self._alone: Blob | None = None

    def pieces(self, start: int) -> Iterator[memoryview]:
        """Yield all bytes from `start` on; each piece is good until the next."""
        while start < self.size:
            data = self._reads.lend(self, start)
            yield data
            start += len(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if self._alone is None:
            self._alone = self._reads.open_alone(self.descriptor)
        self._alone.read_into(offset, buffer)

    def close(self) -> None:
        self._reads.leave(self)
        if self._alone:
            self._alone.close()


class _Block:
    """A part of a blob in memory: `users` have it, and it is `kept` for those of its group who are not there yet."""

    def __init__(self) -> None:
        self.data = memoryview(mmap.mmap(-1, BLOCK))
        self.offset = self.length = self.users = 0
        self.kept = False


class _Group:
    """Those who read a blob together, and the blocks between the last and the first of them.

    `expected` are members that have not begun; as long as there are any, all is kept. `end` is as far as was read;
    `lent` is when one of them last took a block (`time.monotonic`).
    """

    def __init__(self, blob: Blob, lock: threading.Lock) -> None:
        self.blob = blob
        self.changed = threading.Condition(lock)
        self.readers: list[SharedBlob] = []
        self.expected: set[str] = set()
        self.blocks: deque[_Block] = deque()
        self.begun = self.reading = False
        self.end = 0
        self._start, self._began = 0, time.monotonic()
        self.lent = 0.0
        self.error: Exception | None = None

    def has_room_at(self, position: int, lead: int) -> bool:
        """Say whether one who is at `position` can read along: not before the blocks, nor so much behind them."""
        if self.error or not self.begun:
            return not self.error
        start = self.blocks[0].offset if self.blocks else self.end
        return start <= position <= self.end + lead

    def begin(self) -> None:
        """Begin where the last reader is; those who are far ahead of it read by themselves."""
        self.begun, self._began = True, time.monotonic()
        self._start = self.end = min(one.position for one in self.readers)
        self.readers = [one for one in self.readers if one.position <= self.end + BLOCK * BLOCKS]

    def left_s(self) -> float:
        """Return how long its readers will take to the end, at their pace so far [s]."""
        now = time.monotonic()
        if not self.readers or self.end == self._start or now - self.lent > STALL_S:
            return math.inf
        return (self.blob.size - self.end) * (now - self._began) / (self.end - self._start)

    def block_at(self, position: int) -> _Block | None:
        return next((block for block in self.blocks if 0 <= position - block.offset < block.length), None)

    def add(self, block: _Block) -> None:
        block.kept = True
        self.blocks.append(block)
        self.end += block.length

    def passed(self) -> Iterator[_Block]:
        """Yield the blocks that are before all readers, which the group gives up; close the blob of a group of none."""
        if self.expected:
            return
        last = min((one.position for one in self.readers), default=self.end)
        while self.blocks and self.blocks[0].offset + self.blocks[0].length <= last:
            block = self.blocks.popleft()
            block.kept = False
            yield block
        if not self.readers and not self.reading:
            self.blob.close()

    def idle(self) -> int:
        """Count the blocks that nobody has, but that are kept for those who are behind."""
        return sum(not block.users for block in self.blocks)

    def last(self) -> set[str]:
        """Return the members that are furthest behind."""
        last = min((one.position for one in self.readers), default=0)
        return self.expected or {one.name for one in self.readers if one.position == last}

    def drop_last(self) -> None:
        """Let those go who are furthest behind."""
        if self.expected:
            self.expected = set()
            return
        last = min(one.position for one in self.readers)
        self.readers = [one for one in self.readers if one.position > last]


class _MemberPace:
    """How fast a member is, and what is left of the time that it waits for slower ones.

    While others of its `readers` go on, waiting costs less of that.
    """

    def __init__(self) -> None:
        self.readers = 0
        self.speed, self.credit = Speed(), Credit()

    def wait(self, condition: threading.Condition, rate: float) -> None:
        """Wait a moment for one that sends at `rate`."""
        began = time.monotonic()
        condition.wait(LOOK_S)
        self.credit.spend((time.monotonic() - began) / max(1, self.readers), rate, self.speed.rate())
