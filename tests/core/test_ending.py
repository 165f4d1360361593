from threading import Event

from modelctl.core.ending import wait


def test_a_wait_ends_in_its_time() -> None:
    assert not wait(0.01)


def test_a_wait_ends_early_when_what_is_waited_for_is_closed() -> None:
    closed = Event()
    closed.set()

    assert wait(60, closed)
