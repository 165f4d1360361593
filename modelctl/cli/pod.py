"""What a container leaves in its pod's status: the last words that the kubelet reads when it has ended.

Source: Kubernetes, "Customizing the termination message": at most 4096 bytes, the kubelet drops what is behind.
"""

from __future__ import annotations

import json
import os
from bisect import bisect_right
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from itertools import accumulate

from modelctl.core.errors import ModelctlError

LONGEST_TEXT = 1200
"""Bytes of JSON that each text of an error may take: three of them, and every command's facts, stay below 4096."""

_PATH = "/dev/termination-log"


@contextmanager
def last_words() -> Iterator[Callable[..., None]]:
    """Take a command's facts, by their names, as its last words; an error that ends the `with` joins them.

    They go to the path in MODELCTL_TERMINATION_LOG, without to the kubelet's, when a file is there; facts at once,
    because nobody can speak after a SIGKILL.
    """
    words: dict[str, object] = {}

    def say(**facts: object) -> None:
        words.update(facts)
        _write(json.dumps(words).encode())

    try:
        yield say
    except ModelctlError as error:
        with suppress(ModelctlError):  # the disk that is full may be the kubelet's, too
            say(error={name: cut(text) for name, text in facts_of(error).items()})
        raise


def facts_of(error: ModelctlError) -> dict[str, str]:
    """Return an error as a document."""
    return {"code": error.code, "what": error.what, "why": error.why, "hint": error.hint}


def cut(text: str) -> str:
    """Return `text`, or as much of it as takes `LONGEST_TEXT` bytes as JSON in ASCII, the last of it an ellipsis."""
    sizes = list(accumulate(len(json.dumps(letter)) - 2 for letter in text))
    if not sizes or sizes[-1] <= LONGEST_TEXT:
        return text
    return text[: bisect_right(sizes, LONGEST_TEXT - len(r"\u2026"))] + "…"


def _write(message: bytes) -> None:
    from modelctl.core.disk import on_disk

    path = os.environ.get("MODELCTL_TERMINATION_LOG", _PATH)
    if os.path.exists(path):
        with on_disk(path), open(path, "wb") as file:
            file.write(message)
