"""Several repositories asked as one: who is asked, and what becomes of one that does not answer."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import cast

import pytest

from modelctl.core.media_types import OCI_LAYER
from modelctl.core.types import Descriptor, Digest, digest_of
from modelctl.registry.copy import Copied
from modelctl.registry.fanout import FanOut
from modelctl.registry.feed import Crew, Member
from modelctl.registry.remote import RemoteStore

FIRST, SECOND = (
    Descriptor(media_type=OCI_LAYER, digest=digest_of(data), size=len(data)) for data in (b"first", b"second")
)


@dataclass
class Place:
    """A store that has blobs, and answers while it is `awake`; `asked` is how often it was asked."""

    blobs: set[Digest]
    awake: threading.Event = field(default_factory=threading.Event)
    asked: int = 0

    def has(self, descriptor: Descriptor) -> bool:
        self.asked += 1
        self.awake.wait()
        return descriptor.digest in self.blobs


@dataclass
class Two:
    """A place that has one blob and answers, and one that has another and does not."""

    quick: Place
    stuck: Place

    def __post_init__(self) -> None:
        self.quick.awake.set()
        crew = Crew(16, 1)
        crew.members += [_member(self.quick), _member(self.stuck)]
        self.store = FanOut(crew)


def _member(place: Place) -> Member:
    return Member(
        name="any",
        store=cast(RemoteStore, place),
        slots=4,
        copied=Copied(),
        advance=lambda _size: None,
        catch_up=lambda _blob, _name: None,
        stop=lambda: None,
    )


@pytest.fixture
def two() -> Iterator[Two]:
    two = Two(Place({FIRST.digest}), Place({SECOND.digest}))
    yield two
    two.stuck.awake.set()


def test_one_that_owes_an_answer_is_not_asked_again_while_another_one_says_yes(two: Two) -> None:
    found = [two.store.has(FIRST) for _ in range(40)]

    assert (found, two.stuck.asked) == ([True] * 40, 1)


def test_one_that_owes_an_answer_is_asked_when_no_other_one_says_yes(two: Two) -> None:
    two.store.has(FIRST)
    threading.Timer(0.2, two.stuck.awake.set).start()

    assert two.store.has(SECOND)


def test_one_that_has_answered_is_asked_again(two: Two) -> None:
    two.stuck.awake.set()
    found = [two.store.has(blob) for blob in (FIRST, SECOND, SECOND)]

    assert found == [True, True, True]
