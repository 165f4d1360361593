"""Parts side by side: their results, and how all of them end when one fails."""

from __future__ import annotations

import signal
import threading
from collections.abc import Iterator

import pytest

from modelctl.core.errors import ChecksumMismatch, NotFound
from modelctl.core.progress import Progress
from modelctl.flows.workers import Stopped, Workers


class Watcher(Progress):
    """Notes what it is told."""

    def __init__(self) -> None:
        self.told: list[tuple[str, ...]] = []

    def begin(self, name: str, size: int) -> None:
        self.told.append(("begin", name, str(size)))

    def advance(self, name: str, size: int) -> None:
        self.told.append(("advance", name, str(size)))

    def end(self, name: str) -> None:
        self.told.append(("end", name))


class Job:
    """Parts that fail, and parts that go on until they are told to stop."""

    def __init__(self, jobs: int) -> None:
        self.workers = Workers(jobs, Progress())
        self.running = threading.Barrier(2, timeout=30)
        self.began: list[str] = []
        self.stopped: list[str] = []

    def work(self, part: str) -> str:
        self.began.append(part)
        if part == "fails":
            self.running.wait()
            raise NotFound("the part that fails")
        if part == "runs on":
            self.running.wait()
            self.run_on(part)
        return part

    def run_on(self, part: str) -> None:
        with self.workers.part(part, 1) as advance:
            try:
                while True:
                    advance(1)
            except Stopped:
                self.stopped.append(part)
                raise


@pytest.fixture
def interruptible() -> Iterator[None]:
    """Let SIGINT raise KeyboardInterrupt, however the tests were started."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


@pytest.mark.parametrize("jobs", [1, 8])
def test_results_come_in_the_order_of_the_parts(jobs: int) -> None:
    assert list(Workers(jobs, Progress()).run(lambda part: part * 2, range(50))) == list(range(0, 100, 2))


def test_no_part_at_all_gives_no_result() -> None:
    assert list(Workers(4, Progress()).run(str, [])) == []


def test_no_more_parts_than_jobs_run_at_once() -> None:
    lock, running, most = threading.Lock(), 0, 0

    def work(part: int) -> None:
        nonlocal running, most
        with lock:
            running += 1
            most = max(most, running)
        threading.Event().wait(0.002)
        with lock:
            running -= 1

    Workers(3, Progress()).run(work, range(30))

    assert most <= 3


def test_parts_run_side_by_side() -> None:
    meeting = threading.Barrier(4, timeout=30)

    assert len(Workers(4, Progress()).run(lambda part: meeting.wait(), range(4))) == 4


def test_the_error_of_a_part_is_raised() -> None:
    job = Job(2)

    with pytest.raises(NotFound, match="the part that fails"):
        job.workers.run(job.work, ["fails", "runs on"])


def test_an_error_stops_the_parts_that_run() -> None:
    job = Job(2)
    with pytest.raises(NotFound):
        job.workers.run(job.work, ["runs on", "fails"])

    assert job.stopped == ["runs on"]


def test_an_error_keeps_the_other_parts_from_beginning() -> None:
    job = Job(2)
    with pytest.raises(NotFound):
        job.workers.run(job.work, ["fails", "runs on", *(str(number) for number in range(1000))])

    assert set(job.began) == {"fails", "runs on"}


def test_of_several_errors_the_first_parts_is_raised() -> None:
    both = threading.Barrier(2, timeout=30)

    def work(error: Exception) -> None:
        both.wait()
        raise error

    with pytest.raises(ChecksumMismatch):
        Workers(2, Progress()).run(work, [ChecksumMismatch("first"), NotFound("second")])


@pytest.mark.usefixtures("interruptible")
def test_an_interrupt_stops_the_parts_that_run() -> None:
    job = Job(2)

    def work(part: str) -> str:
        if part == "interrupts":
            job.running.wait()
            signal.pthread_kill(threading.main_thread().ident or 0, signal.SIGINT)
            return part
        return job.work(part)

    with pytest.raises(KeyboardInterrupt):
        job.workers.run(work, ["runs on", "interrupts"])

    assert job.stopped == ["runs on"]


def test_the_watcher_is_told_of_a_parts_beginning_pieces_and_end() -> None:
    watcher = Watcher()
    with Workers(1, watcher).part("weights", 30) as advance:
        advance(10)
        advance(20)

    assert watcher.told == [
        ("begin", "weights", "30"),
        ("advance", "weights", "10"),
        ("advance", "weights", "20"),
        ("end", "weights"),
    ]


def test_a_part_that_fails_does_not_end_well() -> None:
    watcher = Watcher()
    with pytest.raises(NotFound), Workers(1, watcher).part("weights", 30):
        raise NotFound("weights")

    assert watcher.told == [("begin", "weights", "30")]
