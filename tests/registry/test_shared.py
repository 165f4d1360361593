"""Blobs read once for several: what each gets, how often the blob is read, and that nobody holds up the others."""

from __future__ import annotations

import hashlib
import itertools
import threading
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from contextlib import closing

import pytest

from modelctl.core.errors import ModelctlError, Unavailable
from modelctl.core.media_types import OCI_LAYER
from modelctl.core.protocols import Blob
from modelctl.core.types import Descriptor, digest_of
from modelctl.registry.shared import BLOCK, BLOCKS, PATIENCE_S, SharedReads
from tests.models import noise

DATA = noise(3 * BLOCK + 1000, "shared")
LARGE = noise(1 << 20, "large") * (2 * BLOCKS * BLOCK >> 20)


def described(data: bytes) -> Descriptor:
    return Descriptor(media_type=OCI_LAYER, digest=digest_of(data), size=len(data))


class Origin:
    """A blob that counts what is read of it [bytes], and fails from byte `breaks` on.

    `opened` is what had been read each time that it was opened.
    """

    def __init__(self, data: bytes, breaks: int = 1 << 60) -> None:
        self.size, self._data, self._breaks = len(data), data, breaks
        self.read = 0
        self.opened: list[int] = []
        self._lock = threading.Lock()

    def open(self, descriptor: Descriptor, elsewhere: bool) -> Blob:
        self.opened.append(self.read)
        return self

    def read_into(self, offset: int, buffer: memoryview) -> None:
        if offset + len(buffer) > self._breaks:
            raise Unavailable("the origin")
        buffer[:] = self._data[offset : offset + len(buffer)]
        with self._lock:
            self.read += len(buffer)

    def close(self) -> None:
        """Nothing is held."""


class Copies:
    """Members that copy one blob, each in a thread, when told to."""

    def __init__(self, origin: Origin, data: bytes, *names: str, patience_s: float = PATIENCE_S) -> None:
        self.reads = SharedReads(origin.open, len(names), patience_s)
        self._descriptor = described(data)
        self._members = {name: self.reads.member(name) for name in names}
        self._pool = ThreadPoolExecutor(len(names))
        for member in self._members.values():
            member.__enter__()

    def copy(self, name: str, start: int = 0, each: Callable[[], object] = lambda: None) -> str:
        """Read the blob to its end for a member; return the sha256 of what came."""
        found = hashlib.sha256()
        with closing(self.reads.open(name, self._descriptor)) as blob:
            for piece in blob.pieces(start):
                found.update(piece)
                each()
        self.reads.settle(name, self._descriptor.digest)
        return found.hexdigest()

    def all(self, *starts: tuple[str, int]) -> list[str]:
        """Copy for several at once, from a byte each."""
        return list(self._pool.map(lambda one: self.copy(*one), starts))


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def test_all_get_the_same_bytes() -> None:
    assert Copies(Origin(DATA), DATA, "a", "b", "c").all(("a", 0), ("b", 0), ("c", 0)) == [sha256(DATA)] * 3


def test_the_blob_is_read_once_for_all() -> None:
    origin = Origin(DATA)
    Copies(origin, DATA, "a", "b", "c").all(("a", 0), ("b", 0), ("c", 0))
    assert origin.read == len(DATA)


def test_one_who_comes_when_the_other_is_done_finds_what_was_read() -> None:
    origin = Origin(DATA)
    copies = Copies(origin, DATA, "a", "b")
    assert ([copies.copy("a"), copies.copy("b")], origin.read) == ([sha256(DATA)] * 2, len(DATA))


def test_one_who_is_not_coming_is_not_waited_for() -> None:
    origin = Origin(LARGE)
    copies = Copies(origin, LARGE, "a", "b")
    copies.reads.settle("b", digest_of(LARGE))
    copies.copy("a")
    assert copies.reads.memory == BLOCK


def test_one_who_never_comes_holds_nobody_up() -> None:
    assert Copies(Origin(LARGE), LARGE, "a", "dead").copy("a") == sha256(LARGE)


def test_memory_is_bounded_however_far_the_others_are_behind() -> None:
    copies = Copies(Origin(LARGE), LARGE, "a", "dead")
    copies.copy("a")
    assert copies.reads.memory <= BLOCKS * BLOCK


def test_one_who_stops_in_the_middle_holds_nobody_up() -> None:
    copies = Copies(Origin(LARGE), LARGE, "a", "b")
    with closing(copies.reads.open("b", described(LARGE))) as slow:
        pieces = slow.pieces(0)
        next(pieces)
        assert copies.copy("a") == sha256(LARGE)


def test_one_who_was_let_go_gets_the_same_bytes() -> None:
    copies = Copies(Origin(LARGE), LARGE, "a", "b")
    with closing(copies.reads.open("b", described(LARGE))) as slow:
        pieces = slow.pieces(0)
        first = bytes(next(pieces))
        copies.copy("a")
        assert sha256(first + b"".join(map(bytes, pieces))) == sha256(LARGE)


def test_one_who_was_let_go_waits_for_another_to_have_the_blob() -> None:
    origin, far_ahead, numbers = Origin(LARGE), threading.Event(), itertools.count()
    copies = Copies(origin, LARGE, "a", "b")

    def ahead() -> None:
        if next(numbers) * BLOCK > len(LARGE) // 4 * 3:
            far_ahead.set()
            time.sleep(0.01)

    with closing(copies.reads.open("b", described(LARGE))) as slow, ThreadPoolExecutor() as pool:
        pieces = slow.pieces(0)
        next(pieces)
        first = pool.submit(copies.copy, "a", 0, ahead)
        far_ahead.wait()
        list(pieces)
        assert (first.result(), origin.opened) == (sha256(LARGE), [0, len(LARGE)])


@pytest.mark.parametrize(
    ("read", "patience_s"),
    [
        pytest.param(len(LARGE) // 4 * 3, 0.1, id="would take long"),
        pytest.param(len(LARGE), PATIENCE_S, id="is stuck at the end"),
    ],
)
def test_but_not_for_one_that(read: int, patience_s: float) -> None:
    origin, there, over = Origin(LARGE), threading.Event(), threading.Event()
    copies = Copies(origin, LARGE, "a", "b", patience_s=patience_s)

    def stuck() -> None:
        if origin.read >= read:
            there.set()
            over.wait()

    with closing(copies.reads.open("b", described(LARGE))) as slow, ThreadPoolExecutor() as pool:
        pieces = slow.pieces(0)
        next(pieces)
        pool.submit(copies.copy, "a", 0, stuck)
        there.wait()
        list(pieces)
        over.set()
        assert len(origin.opened) == 2


def test_one_who_is_far_ahead_waits_for_nobody_who_is_behind() -> None:
    origin, begun, over = Origin(LARGE), threading.Event(), threading.Event()
    copies = Copies(origin, LARGE, "a", "b")

    def stuck() -> None:
        begun.set()
        over.wait()

    with ThreadPoolExecutor() as pool:
        behind = pool.submit(copies.copy, "a", 0, stuck)
        begun.wait()
        copies.copy("b", len(LARGE) - 5000)
        assert not behind.done()
        over.set()


def test_what_was_lent_stays_as_it_is_however_far_the_others_are() -> None:
    copies = Copies(Origin(LARGE), LARGE, "a", "b")
    with closing(copies.reads.open("b", described(LARGE))) as slow:
        piece = next(slow.pieces(0))
        copies.copy("a")
        assert piece == LARGE[: len(piece)]


def test_two_who_go_on_with_uploads_at_about_the_same_byte_share_what_is_left() -> None:
    origin = Origin(LARGE)
    copies = Copies(origin, LARGE, "a", "b")
    found = copies.all(("a", len(LARGE) - 5000), ("b", len(LARGE) - 9000))
    assert (found, origin.read) == ([sha256(LARGE[-5000:]), sha256(LARGE[-9000:])], 9000)


def test_one_who_goes_on_far_ahead_does_not_wait_for_one_who_begins() -> None:
    copies = Copies(Origin(LARGE), LARGE, "a", "b")
    assert copies.all(("a", len(LARGE) - 5000), ("b", 0)) == [sha256(LARGE[-5000:]), sha256(LARGE)]


def test_what_the_blob_fails_with_all_are_told() -> None:
    copies = Copies(Origin(DATA, breaks=BLOCK), DATA, "a", "b")
    for name in ("a", "b"):
        with pytest.raises(ModelctlError, match="the origin"):
            copies.copy(name)


def test_what_has_to_be_read_again_is_read_alone() -> None:
    copies = Copies(Origin(DATA), DATA, "a", "b")
    buffer = memoryview(bytearray(10))
    with closing(copies.reads.open("a", described(DATA))) as blob:
        list(blob.pieces(0))
        blob.read_into(5, buffer)
    assert buffer == DATA[5:15]


def test_many_at_their_own_pace_end() -> None:
    data = DATA * 40
    names = [f"m{number}" for number in range(12)]
    copies = Copies(Origin(data), data, *names)
    assert copies.all(*((name, 0) for name in names)) == [sha256(data)] * 12
