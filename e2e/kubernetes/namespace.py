"""A namespace, by kubectl: apply, wait, look. What was waited for in vain is told with pods and events."""

from __future__ import annotations

import json
import re
import secrets
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from e2e.command import CommandFailed, run

_PATIENCE_S = 60


SUMS = "find . -type f -exec sha256sum {} +"
"""Prints what `parse_sums` reads, of all files below."""


def parse_sums(text: str) -> dict[str, str]:
    """Return the sha256 of every file, by its path, of what `SUMS` has printed."""
    return {line[66:].removeprefix("./"): line[:64] for line in text.splitlines()}


def kubectl(*arguments: str | Path) -> str:
    return run("kubectl", *arguments)


@contextmanager
def new_namespace(scratch: Path, *contexts: str) -> Iterator[list[Namespace]]:
    """Make a namespace of the same name in several clusters, which takes only pods that are as restricted as can be."""
    name = f"test-{secrets.token_hex(4)}"
    for context in contexts:
        kubectl("--context", context, "create", "namespace", name)
        kubectl("--context", context, "label", "namespace", name, "pod-security.kubernetes.io/enforce=restricted")
    yield [Namespace(name, scratch / f"{name}-{context}.yaml", context) for context in contexts]
    for context in contexts:
        kubectl("--context", context, "delete", "namespace", name, "--wait=false")


class Namespace:
    """One namespace of a cluster; call it to run kubectl there."""

    def __init__(self, name: str, scratch: Path, context: str) -> None:
        """Take a namespace that is there; `scratch` is a file that this may write."""
        self.name = name
        self._scratch = scratch
        self._context = context

    def __call__(self, *arguments: str | Path) -> str:
        return kubectl("--context", self._context, "--namespace", self.name, *arguments)

    def apply(self, manifest: str, *flags: str) -> str:
        """Apply YAML or JSON; return what kubectl says of it."""
        self._scratch.write_text(manifest)
        return self("apply", "-f", self._scratch, *flags)

    def start(self, target: str, manifest: str) -> None:
        """Apply `manifest` and wait for `target` of it, a pod or a deployment."""
        self.apply(manifest)
        self.wait_for("condition=Available" if target.startswith("deploy") else "condition=Ready", target)

    def wait_for(self, condition: str, target: str) -> None:
        """Wait until an object is as `kubectl wait --for` says."""
        try:
            self("wait", f"--for={condition}", f"--timeout={_PATIENCE_S}s", target)
        except CommandFailed as error:
            raise CommandFailed(f"{error}\n{self.state()}") from error

    def wait_for_event(self, pattern: str) -> str:
        """Return the first event whose message has `pattern`, a regular expression."""

        def find() -> str:
            messages: list[str] = [event["message"] for event in self.get("events")]
            return next((message for message in messages if re.search(pattern, message)), "")

        return self.until(f"an event like {pattern!r}", find)

    def until(self, what: str, find: Callable[[], str]) -> str:
        """Return what `find` finds, as soon as it finds something."""
        deadline = time.monotonic() + _PATIENCE_S
        while not (found := find()):
            if time.monotonic() > deadline:
                raise CommandFailed(f"waited {_PATIENCE_S} s for {what}\n{self.state()}")
            time.sleep(0.2)
        return found

    def get(self, kind: str, *flags: str) -> list[Any]:
        """Return all objects of a kind, or those that flags select."""
        items: list[Any] = json.loads(self("get", kind, "-o", "json", *flags))["items"]
        return items

    def state(self) -> str:
        """Return pods and events, for people."""
        return self("describe", "pods") + self("get", "events", "--sort-by=.lastTimestamp")

    def shell(self, target: str, script: str) -> str:
        """Run a script in a container of `target`; return what it prints."""
        return self("exec", target, "--", "sh", "-c", script)

    def files(self, target: str, folder: str) -> dict[str, str]:
        """Return the sha256 of every file under a folder of a container, by its path in there."""
        return parse_sums(self.shell(target, f"cd {folder} && {SUMS}"))

    def write_refused(self, target: str, folder: str) -> str:
        """Try to write into a folder of a container; return what the shell says of it."""
        return self.shell(target, f"! touch {folder}/new 2>&1")
