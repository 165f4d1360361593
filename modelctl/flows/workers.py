"""Run the parts of a job side by side, and end all of them when one fails or the user interrupts."""

from __future__ import annotations

import os
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_EXCEPTION, ThreadPoolExecutor, wait
from contextlib import contextmanager
from typing import TypeVar

from modelctl.core.progress import Progress

Part = TypeVar("Part")
Result = TypeVar("Result")


class Stopped(Exception):
    """Another part failed, so this one gave up. Never reaches the user."""


JOBS = 4
"""Parts at once where nobody said how many: one connection seldom fills a registry's link."""


@contextmanager
def side_by_side(jobs: Sequence[Workers], most: int) -> Iterator[Callable[[Iterable[Callable[[], None]]], None]]:
    """Yield what does a part of each job, so many at once; what is no job's own failure stops all `jobs`."""

    def do(parts: Iterable[Callable[[], None]]) -> None:
        done, _ = wait([pool.submit(part) for part in parts], return_when=FIRST_EXCEPTION)
        for future in done:
            future.result()

    with ThreadPoolExecutor(max(1, min(most, len(jobs)))) as pool:
        try:
            yield do
        except BaseException:
            for job in jobs:
                job.stop()
            pool.shutdown(wait=True, cancel_futures=True)
            raise


class Workers:
    """At most `jobs` parts of one job at once, each in a thread.

    With None, 4; where no registry is waited for (not `remote`), no more than there are CPUs: on one core four
    threads cost 5 % more CPU than one (`make bench`).
    """

    def __init__(self, jobs: int | None, progress: Progress, *, remote: bool = False) -> None:
        self.jobs = jobs or (JOBS if remote else min(JOBS, len(os.sched_getaffinity(0))))
        self._progress = progress
        self._stop = threading.Event()

    def expect(self, files: int, size: int) -> None:
        """Say how much lies ahead: `files` parts of `size` bytes in all."""
        self._progress.expect(files, size)

    @contextmanager
    def part(self, name: str, size: int) -> Iterator[Callable[[int], None]]:
        """Show a part of `size` bytes, from its beginning to its end.

        Yields:
            What to call with each piece done [bytes], or while one waits with 0; raises `Stopped` when the job is over.
        """
        self._progress.begin(name, size)

        def advance(size: int) -> None:
            if self._stop.is_set():
                raise Stopped
            self._progress.advance(name, size)

        yield advance
        self._progress.end(name)

    def stop(self) -> None:
        """End all parts at their next piece."""
        self._stop.set()

    def run(self, work: Callable[[Part], Result], parts: Iterable[Part]) -> Sequence[Result]:
        """Return the results in the order of `parts`; raise the first part's error once all have ended."""
        with ThreadPoolExecutor(self.jobs) as pool:
            failed = True
            try:
                futures = [pool.submit(self._attempt, work, part) for part in parts]
                finished, _ = wait(futures, return_when=FIRST_EXCEPTION)
                failed = any(future.exception() for future in finished)
            finally:
                if failed:
                    self._stop.set()
                    pool.shutdown(wait=True, cancel_futures=True)
        for future in futures:
            error = None if future.cancelled() else future.exception()
            if error and not isinstance(error, Stopped):
                raise error
        return [future.result() for future in futures]

    def _attempt(self, work: Callable[[Part], Result], part: Part) -> Result:
        """Do a part; one that fails stops the others at once."""
        if self._stop.is_set():
            raise Stopped
        try:
            return work(part)
        except BaseException:
            self._stop.set()
            raise
