"""A model in the registry, preloads of it that run while a test does something, and what they leave in the cluster."""

from __future__ import annotations

import json
import re
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

from e2e.command import MODELCTL, CommandFailed, Ended
from e2e.kubernetes.model import Model as Packed
from e2e.kubernetes.namespace import kubectl

_PATIENCE_S = 60.0


class Run:
    """A modelctl that runs."""

    def __init__(self, process: subprocess.Popen[str], words: Path) -> None:
        """Take the process, and the file that its stderr goes to."""
        self.process, self._words = process, words

    @property
    def words(self) -> str:
        """What it has said so far, but for its result."""
        return self._words.read_text(encoding="utf-8")

    def until(self, pattern: str) -> str:
        """Return the first line that it says which has `pattern` in it, a regular expression."""
        deadline = time.monotonic() + _PATIENCE_S
        while True:
            over = self.process.poll() is not None or time.monotonic() > deadline
            found = [line for line in self.words.splitlines() if re.search(pattern, line)]
            if found:
                return found[0]
            if over:
                raise CommandFailed(f"it has not said {pattern!r}:\n{self.words}")
            time.sleep(0.05)

    def interrupt(self) -> None:
        """Do what ^C does."""
        self.process.send_signal(signal.SIGINT)

    def kill(self) -> None:
        self.process.kill()

    def ended(self) -> Ended:
        """Wait for its end."""
        stdout, _ = self.process.communicate(timeout=3 * _PATIENCE_S)
        return Ended(self.process.returncode, stdout, self.words)


class Model(Packed):
    """A packed model, and its preloads."""

    @contextmanager
    def running(self, verb: str, *flags: str | Path) -> Iterator[Run]:
        """Run preload or unload while the `with` lasts; kill it if it has not ended by then."""
        command = [MODELCTL, verb, self.reference, *self._flags, *map(str, flags)]
        with tempfile.NamedTemporaryFile("w", suffix=".words") as words:
            with subprocess.Popen(command, stdout=subprocess.PIPE, stderr=words, text=True) as process:
                try:
                    yield Run(process, Path(words.name))
                finally:
                    process.kill()

    def preloading(self, *flags: str | Path) -> AbstractContextManager[Run]:
        """Run a preload; see `running`."""
        return self.running("preload", *flags)

    @property
    def partial(self) -> str:
        """Where host mode puts files of the model that are not all there."""
        return f"/var/lib/modelctl/partial/{self.digest}"

    def labels(self, node: str) -> set[str]:
        """Return what the labels of a node say of the model: "disk", "warm"."""
        found = json.loads(kubectl("get", "node", node, "-o", "json"))["metadata"]["labels"]
        return {what for what, label in (("disk", self.disk_label), ("warm", self.warm_label)) if label in found}

    def jobs(self) -> list[Any]:
        """Return the Jobs of the model, wherever they are."""
        return self._of("jobs")

    def pods(self) -> list[Any]:
        """Return the pods of the model that are not being deleted, wherever they are."""
        return [pod for pod in self._of("pods") if "deletionTimestamp" not in pod["metadata"]]

    def _of(self, kind: str) -> list[Any]:
        listed = kubectl("get", kind, "-A", "-l", f"modelctl.io/model={self.short}", "-o", "json")
        items: list[Any] = json.loads(listed)["items"]
        return items
