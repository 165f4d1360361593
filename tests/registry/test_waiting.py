"""How fast a member is of late, and when it is not waited for any more, by a clock of the test's own."""

from __future__ import annotations

import pytest

from modelctl.registry.waiting import LOOK_S, Credit, Speed


class Clock:
    now = 0.0

    def __call__(self) -> float:
        return self.now


def send(clock: Clock, speed: Speed, seconds: float, rate: float) -> None:
    """Send so long, a tenth of a second at once."""
    for _ in range(round(seconds * 10)):
        speed.begin("upload")
        clock.now += 0.1
        speed.end("upload", round(rate / 10))


def let_go_after(clock: Clock, speed: Speed, credit: Credit, fastest: float) -> float:
    """Wait until it is not worth it any more; return how long that was [s]."""
    began = clock.now
    while credit.left_s() > 0:
        clock.now += LOOK_S
        credit.spend(LOOK_S, speed.rate(), fastest)
    return clock.now - began


def test_the_rate_is_what_one_upload_sends() -> None:
    clock = Clock()
    speed = Speed(clock)
    send(clock, speed, 5, 1e6)
    assert speed.rate() == pytest.approx(1e6)


@pytest.mark.parametrize("run_s", [60, 300, 1000])
def test_one_that_dies_after_a_long_run_is_let_go_when_its_share_is_spent(run_s: int) -> None:
    clock = Clock()
    speed, credit = Speed(clock), Credit(clock)
    send(clock, speed, run_s, 1e6)
    speed.begin("upload")
    assert let_go_after(clock, speed, credit, 1e6) <= 1 + 0.05 * run_s * 1.1 + 3


def test_one_that_crawls_after_a_long_run_is_as_slow_as_it_is_now() -> None:
    clock = Clock()
    speed = Speed(clock)
    send(clock, speed, 300, 1e6)
    send(clock, speed, 10, 1e3)
    assert speed.rate() < 1e4


def test_one_of_several_uploads_that_is_stuck_makes_the_member_slower_by_its_part() -> None:
    clock = Clock()
    speed = Speed(clock)
    send(clock, speed, 5, 1e6)
    speed.begin("stuck")
    clock.now += 100
    for other in range(3):
        speed.begin(other)
    assert speed.rate() == pytest.approx(0.75e6, rel=0.05)


def test_what_sends_nothing_by_its_nature_says_nothing_of_the_rate() -> None:
    clock = Clock()
    speed = Speed(clock)
    send(clock, speed, 5, 1e6)
    speed.begin("upload")
    clock.now += 30
    speed.end("upload", 0)
    assert speed.rate() == pytest.approx(1e6)


def test_waiting_for_one_as_fast_costs_nothing() -> None:
    clock = Clock()
    credit = Credit(clock)
    credit.spend(100, 1e6, 1e6)
    assert credit.left_s() == 1
