"""Pods as they now are: a list, kept up to date by a watch in a thread of its own.

Knows no HTTP: `api.py` lists and watches. What it lists and hears are pods, as plain data.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from typing import Protocol

from modelctl.cluster.labels import Object
from modelctl.core.errors import Denied, ModelctlError, Unavailable
from modelctl.core.retry import wait_after

_SHORT_S = 1.0
"""A watch that ends sooner and has told nothing has failed. Source: client-go, tools/cache/reflector.go."""

_LEAVING_S = 1.0


class Expired(Unavailable):
    """What the cluster was asked to go on from is no longer kept (410 Gone): list again."""


class Watch(Protocol):
    """Events of one watch as they come, (type, object); `end` ends it from another thread."""

    def __iter__(self) -> Iterator[tuple[str, Object]]: ...

    def end(self) -> None: ...


class Followed:
    """The pods that a list told of and a watch tells of since.

    A watch that ends, whole or in the middle of a byte, is followed by one from where it was; `Expired` by a list.
    """

    def __init__(
        self, what: str, list_pods: Callable[[], tuple[list[Object], str]], watch: Callable[[str], Watch]
    ) -> None:
        """Take what lists the pods, with their resourceVersion, and what watches them from one; each tries once."""
        self._what, self._list_pods, self._open_watch = what, list_pods, watch
        self._thread = threading.Thread(target=self._run, name="watch of pods", daemon=True)
        self._changed = threading.Condition()
        self._stopped = threading.Event()
        self._pods: dict[tuple[str, str], Object] = {}
        self._version = ""
        self._news = False
        self._failures = 0
        self._problem: Exception | None = None
        self._watch: Watch | None = None

    def next(self, timeout_s: float) -> list[Object]:
        """Wait until pods changed since the last call, at most `timeout_s` [s]; at first there is nothing to wait for.

        Returns:
            All pods as they now are. The list is the caller's own, the pods are not to be changed.

        Raises:
            Denied: The cluster refuses to tell. ModelctlError: What the last of several tries in a row ended in.
        """
        with self._changed:
            self._changed.wait_for(lambda: self._news or self._problem is not None, timeout_s)
            if self._problem is not None and not self._news:
                raise self._problem
            self._news = False
            return list(self._pods.values())

    def load(self) -> None:
        """List the pods anew; those known before are forgotten."""
        pods, self._version = self._list_pods()
        with self._changed:
            self._pods = {_key(pod): pod for pod in pods}
            self._news = True
            self._changed.notify_all()

    def start(self) -> None:
        """Watch from the last `load` on."""
        self._thread.start()

    def stop(self) -> None:
        """End the watch, and wait for its thread 1 s: one whose answer has not begun is left to end by itself."""
        self._stopped.set()
        if self._watch:
            self._watch.end()
        self._thread.join(_LEAVING_S)

    def _run(self) -> None:
        """Watch until told to stop, or until something ends it that `next` then raises, whatever it is."""
        wait: float | None = 0.0
        while wait is not None and not self._stopped.wait(wait):
            try:
                self._turn()
            except Exception as error:
                wait = self._wait_after(error)

    def _wait_after(self, error: Exception) -> float | None:
        self._failures += 1
        asked_s = error.retry_after if isinstance(error, Unavailable) else None
        worth = isinstance(error, ModelctlError) and not isinstance(error, Denied)
        wait = wait_after(self._failures, asked_s) if worth else None
        if wait is None:
            with self._changed:
                self._problem = error
                self._changed.notify_all()
        return wait

    def _turn(self) -> None:
        """Watch once; end in an error, the first in a row when the watch told something or lasted."""
        try:
            if not self._version:
                self.load()
            watch = self._open_watch(self._version)
            began = time.monotonic()
            try:
                self._hear(watch)
            finally:
                if time.monotonic() - began > _SHORT_S:
                    self._failures = 0
        except Expired:
            self._version = ""
            raise
        raise Unavailable(self._what, why="the watch ended")

    def _hear(self, watch: Watch) -> None:
        self._watch = watch
        if self._stopped.is_set():
            watch.end()
        for kind, found in watch:
            self._take(kind, found)
            self._failures = 0

    def _take(self, kind: str, found: Object) -> None:
        self._version = found["metadata"]["resourceVersion"]
        if kind == "BOOKMARK":
            return
        with self._changed:
            if kind == "DELETED":
                self._pods.pop(_key(found), None)
            else:
                self._pods[_key(found)] = found
            self._news = True
            self._changed.notify_all()


def _key(pod: Object) -> tuple[str, str]:
    return pod["metadata"]["namespace"], pod["metadata"]["name"]
