"""A blob on its way into several stores: who is slow or fails is let go, and gets it later; whoever is left goes on."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass, field
from typing import cast

import pytest

from modelctl.core.errors import BadAnswer, Denied, ModelctlError, NotFound, Partial, Unavailable
from modelctl.core.protocols import Blob, BytesBlob
from modelctl.core.types import Bytes, Checkpoint, Descriptor, Digest, digest_of
from modelctl.registry.copy import Copied
from modelctl.registry.fanout import FanOut
from modelctl.registry.feed import FEWEST, MEMORY, PIECE, Crew, Member, NoneLeft
from modelctl.registry.remote import RemoteStore
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy
from tests.fakes.memory_registry import MemoryRegistry, memory_registry
from tests.models import noise
from tests.registries import remote

DATA = noise(20 << 20, "blob")
DIGEST = digest_of(DATA)
NAME = "sealed as a test has it"


def refused(skip: int = 0) -> Fault:
    """Refuse all uploads, but for so many requests of them."""
    return Fault("^(PATCH|POST)", "status", status=400, skip=skip, times=999)


class Layer:
    """Bytes as a blob that is no document."""

    def __init__(self, data: bytes) -> None:
        self._bytes, self.size = BytesBlob(data), len(data)

    def read_into(self, offset: int, buffer: memoryview) -> None:
        self._bytes.read_into(offset, buffer)

    def close(self) -> None:
        """Nothing is held."""


@dataclass
class Place:
    """A member, its registry, the proxy before that, and what was asked to be caught up there."""

    registry: MemoryRegistry
    proxy: Proxy
    late: list[tuple[Descriptor, str]] = field(default_factory=list)
    moved: list[int] = field(default_factory=list)

    def member(self, slots: int = 4) -> Member:
        return Member(
            name=self.proxy.host,
            store=remote(self.proxy.host, "models/qwen", timeout_s=60.0),
            slots=slots,
            copied=Copied(),
            advance=self.moved.append,
            catch_up=lambda blob, name: self.late.append((blob, name)),
            stop=lambda: None,
        )

    @property
    def blobs(self) -> set[str]:
        return set(self.registry.blobs)


@pytest.fixture
def places() -> Iterator[tuple[Place, Place]]:
    with ExitStack() as stack:
        registries = [stack.enter_context(memory_registry()) for _ in range(2)]
        one, two = (Place(each, stack.enter_context(fault_proxy(each.host))) for each in registries)
        yield one, two


def crew_of(*members: Member, most: int = 16) -> Crew:
    crew = Crew(most, 1)
    crew.members += members
    return crew


def send(crew: Crew, data: bytes = DATA) -> bool:
    """Send a blob to all members, and wait until they do nothing more."""
    with crew.at_work(), FanOut(crew).upload(Layer(data), NAME) as upload:
        upload.write(data)
        new = upload.commit(digest_of(data))
    for member in crew.members:
        crew.join(member)
    return new


def test_all_get_it(places: tuple[Place, Place]) -> None:
    new = send(crew_of(*(place.member() for place in places)))

    assert (new, [place.blobs for place in places]) == (True, [{DIGEST}, {DIGEST}])


def test_what_moved_is_its_size(places: tuple[Place, Place]) -> None:
    send(crew_of(*(place.member() for place in places)))

    assert [sum(place.moved) for place in places] == [len(DATA)] * 2


def test_one_that_fails_moved_nothing(places: tuple[Place, Place]) -> None:
    one, two = places
    one.proxy.faults.append(refused())
    send(crew_of(one.member(), two.member()))

    assert (sum(one.moved), one.late, two.blobs) == (0, [], {DIGEST})


def test_one_without_a_slot_gets_it_later(places: tuple[Place, Place]) -> None:
    one, two = places
    busy = one.member(slots=1)
    crew = crew_of(busy, two.member())
    (member,) = crew.reserve(set, 1)
    with FanOut(crew).upload(Layer(DATA), NAME) as upload:
        upload.write(DATA)
        upload.commit(DIGEST)
    crew.release(member)
    crew.join(busy)

    assert (one.blobs, [(blob.digest, name) for blob, name in one.late]) == (set(), [(DIGEST, NAME)])


def test_more_members_than_may_take_part_get_nothing(places: tuple[Place, Place]) -> None:
    send(crew_of(*(place.member() for place in places), most=1))

    assert [(place.blobs, place.late) for place in places] == [({DIGEST}, []), (set(), [])]


def test_one_that_is_stuck_is_let_go_and_gets_it_later(places: tuple[Place, Place]) -> None:
    one, two = places
    stuck = Fault("^PATCH", "hold-request", at=100_000)
    one.proxy.faults.append(stuck)
    crew = crew_of(one.member(), two.member())
    with FanOut(crew).upload(Layer(DATA), NAME) as upload:
        upload.write(DATA)
        upload.commit(DIGEST)
    before = one.late.copy()
    stuck.let_go.set()
    crew.join(crew.members[0])

    assert (before, [blob.digest for blob, _ in one.late], two.blobs) == ([], [DIGEST], {DIGEST})


def test_where_the_others_die_one_that_was_let_go_takes_over(places: tuple[Place, Place]) -> None:
    one, two = places
    stuck = Fault("^PATCH", "hold-request", at=100_000)
    one.proxy.faults.append(stuck)
    two.proxy.faults += [Fault("^PATCH", "cut-request", at=19 << 20), refused(skip=1)]
    crew = crew_of(one.member(), two.member())
    with FanOut(crew).upload(Layer(DATA), NAME) as upload:
        upload.write(DATA[: 15 << 20])
        stuck.let_go.set()
        upload.write(DATA[15 << 20 :])
        upload.commit(DIGEST)

    assert (one.blobs, two.blobs, isinstance(crew.members[1].error, BadAnswer)) == ({DIGEST}, set(), True)


def test_where_all_fail_the_error_names_them(places: tuple[Place, Place]) -> None:
    for place in places:
        place.proxy.faults.append(refused())
    with pytest.raises(ModelctlError) as caught:
        send(crew_of(*(place.member() for place in places)))

    assert [place.proxy.host in caught.value.why for place in places] == [True, True]


@pytest.mark.parametrize("uploads", [1, 4, 7, 64, 1000])
def test_no_more_is_queued_than_there_is_memory_for(uploads: int) -> None:
    crew = Crew(16, uploads)

    assert (crew.window * uploads * crew.piece <= MEMORY, crew.window >= FEWEST) == (True, True)


@pytest.mark.parametrize(
    ("errors", "status"),
    [
        ([Denied("a"), Denied("b")], Denied.exit_status),
        ([Unavailable("a"), BadAnswer("b")], Unavailable.exit_status),
        ([Denied("a"), NotFound("b")], Partial.exit_status),
    ],
)
def test_the_status_when_all_fail_is_theirs_if_it_is_one(errors: list[ModelctlError], status: int) -> None:
    assert NoneLeft({error.what: error for error in errors}).exit_status == status


def test_documents_and_tags_are_only_kept(places: tuple[Place, Place]) -> None:
    one, _ = places
    store = FanOut(crew_of(one.member()))
    with store.upload(BytesBlob(b"{}")) as upload:
        upload.write(b"{}")
        upload.commit(digest_of(b"{}"))
    document = Descriptor(media_type="application/json", digest=digest_of(b"{}"), size=2)
    store.tag(document, "v1")

    assert (one.registry.requests, store.has(document), store.resolve("v1")) == ([], True, document)


@pytest.mark.parametrize("having", [0, 1])
def test_a_blob_is_read_where_it_is(places: tuple[Place, Place], having: int) -> None:
    places[having].registry.blobs[DIGEST] = DATA
    store = FanOut(crew_of(*(place.member() for place in places)))
    blob = store.open(Descriptor(media_type="any", digest=Digest(DIGEST), size=len(DATA)))
    found = bytearray(1000)
    blob.read_into(5, memoryview(found))

    assert (found, store.read) == (DATA[5:1005], 1000)


@dataclass
class Scripted:
    """A store whose uploads take what they get, unless they are told otherwise, and end `broken` where that is set.

    `saved` is what an earlier upload kept, `kept` what the last one did; `open` is waited for before each piece.
    """

    saved: Sequence[Checkpoint] = ()
    broken: ModelctlError | None = None
    unwritable: bool = False
    kept: list[Checkpoint] = field(default_factory=list)
    digests: list[Digest] = field(default_factory=list)
    open: threading.Event = field(default_factory=threading.Event)
    moved: list[int] = field(default_factory=list)
    sent: int = 0

    def __post_init__(self) -> None:
        self.open.set()

    @contextmanager
    def upload(self, _blob: Blob, _name: str) -> Iterator[Scripted]:
        if self.unwritable:
            raise OSError(5, "cannot be read")
        yield self

    def write(self, _data: Bytes) -> None:
        self.open.wait()
        if self.broken:
            raise self.broken

    def save(self, checkpoint: Checkpoint) -> None:
        self.kept.append(checkpoint)

    def commit(self, digest: Digest) -> bool:
        self.digests.append(digest)
        return True

    def member(self, name: str) -> Member:
        return Member(
            name=name,
            store=cast(RemoteStore, self),
            slots=1,
            copied=Copied(),
            advance=self.moved.append,
            catch_up=lambda _blob, _name: None,
            stop=lambda: None,
        )


class Lost(Layer):
    """Bytes that cannot be read again."""

    def read_into(self, offset: int, buffer: memoryview) -> None:
        raise Unavailable("the bucket")


def checkpoint(position: int) -> Checkpoint:
    return Checkpoint(position=position, file=0, end=position, sha256=b"s", crc32=1, crc64=2, chunk=b"c" * 32)


def wait_for(condition: Callable[[], object]) -> None:
    deadline = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.005)


CHECKPOINTS = [checkpoint(2 * PIECE), checkpoint(4 * PIECE)]


class TestTakeover:
    """The first of two fails after a checkpoint, and the second goes on."""

    def hand_over(self, first: Scripted, second: Scripted, blob: Layer) -> None:
        crew = crew_of(first.member("first"), second.member("second"), most=1)
        with crew.at_work(), FanOut(crew).upload(blob, NAME) as upload:
            upload.write(DATA[: 2 * PIECE])
            upload.save(CHECKPOINTS[0])
            wait_for(lambda: first.kept)
            first.broken = Unavailable("dead")
            upload.write(DATA[2 * PIECE : 3 * PIECE])
            wait_for(lambda: crew.members[0].error)
            upload.write(DATA[3 * PIECE : 4 * PIECE])
            upload.save(CHECKPOINTS[1])
            upload.write(DATA[4 * PIECE :])
            upload.commit(DIGEST)

    @pytest.mark.parametrize("has", [0, 1])
    def test_no_checkpoint_is_kept_with_a_gap_before_it(self, has: int) -> None:
        second = Scripted(saved=CHECKPOINTS[:has])
        self.hand_over(Scripted(), second, Layer(DATA))

        assert (second.digests, second.kept) == ([DIGEST], CHECKPOINTS[1:] if has else [])

    def test_a_source_that_cannot_be_read_again_ends_the_job_and_not_the_region(self) -> None:
        second = Scripted()
        with pytest.raises(Unavailable, match="source: the bucket"):
            self.hand_over(Scripted(), second, Lost(DATA))

        assert second.digests == []

    def test_at_the_end_all_that_it_was_sent_is_shown(self) -> None:
        first, second, data = Scripted(), Scripted(), DATA[: 4 * PIECE]
        crew = crew_of(first.member("first"), second.member("second"), most=1)
        with crew.at_work(), FanOut(crew).upload(Layer(data), NAME) as upload:
            first.broken = Unavailable("dead")
            upload.write(data)
            wait_for(lambda: crew.members[0].error)
            upload.commit(digest_of(data))

        assert (sum(first.moved), sum(second.moved)) == (0, len(data))

    def test_one_that_was_let_go_in_a_piece_takes_over_when_that_ends(self) -> None:
        first, second = Scripted(), Scripted()
        second.open.clear()
        crew = crew_of(first.member("first"), second.member("second"))
        with crew.at_work(), FanOut(crew).upload(Layer(DATA), NAME) as upload:
            upload.write(DATA[: 18 << 20])
            first.broken = Unavailable("dead")
            threading.Timer(0.5, second.open.set).start()
            upload.write(DATA[18 << 20 :])
            upload.commit(DIGEST)

        assert (first.digests, second.digests) == ([], [DIGEST])


def test_one_that_cannot_begin_fails_alone_and_gives_its_slot_back() -> None:
    first, second = Scripted(unwritable=True), Scripted()
    crew = crew_of(first.member("first"), second.member("second"))
    send(crew)

    assert (crew.members[0].busy, second.digests, crew.members[0].error is None) == (0, [DIGEST], False)


def test_each_is_told_before_it_begins() -> None:
    begun: list[str] = []
    members = [Scripted().member(name) for name in ("first", "second")]
    for member in members:
        member.begin = lambda name=member.name: begun.append(name)  # type: ignore[misc]
    send(crew_of(*members, most=1))

    assert begun == ["first"]
