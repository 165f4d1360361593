"""Progress as bars, for a terminal: one for each shard being worked on, one for all. Imports rich."""

from __future__ import annotations

import threading
from types import TracebackType

from rich.console import Console
from rich.progress import (
    BarColumn,
    DownloadColumn,
    TaskID,
    TextColumn,
    TimeRemainingColumn,
    TransferSpeedColumn,
)
from rich.progress import Progress as Bars

from modelctl.core.progress import Progress


class BarProgress(Progress):
    """Draws on stderr while the `with` lasts, and leaves the total's last state behind."""

    def __init__(self, verb: str) -> None:
        self._bars = Bars(
            TextColumn("{task.description}", markup=False),
            BarColumn(),
            DownloadColumn(),
            TransferSpeedColumn(),
            TimeRemainingColumn(),
            console=Console(stderr=True),
        )
        self._lock = threading.Lock()
        self._tasks: dict[str, TaskID] = {}
        self._total = self._bars.add_task(verb, total=None)

    def __enter__(self) -> BarProgress:
        self._bars.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._bars.stop()

    def expect(self, files: int, size: int) -> None:
        self._bars.update(self._total, total=size)

    def begin(self, name: str, size: int) -> None:
        with self._lock:
            if name in self._tasks:  # it failed, and goes elsewhere
                self._bars.remove_task(self._tasks[name])
            self._tasks[name] = self._bars.add_task(f"  {name[-48:]}", total=size)

    def advance(self, name: str, size: int) -> None:
        self._bars.advance(self._tasks[name], size)
        self._bars.advance(self._total, size)

    def end(self, name: str) -> None:
        with self._lock:
            self._bars.remove_task(self._tasks.pop(name))
