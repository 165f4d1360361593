"""Types that several threads may decode at once.

msgspec learns a type when it first decodes one, and threads that do so together crash the process (0.22.0, tried).
"""

from __future__ import annotations

import threading
from typing import TypeVar

import msgspec

Known = TypeVar("Known")

_LOCK = threading.Lock()
_LEARNED: set[object] = set()


def learned(type_: type[Known]) -> type[Known]:
    """Return `type_` when msgspec has learned it, in one thread."""
    if type_ not in _LEARNED:
        with _LOCK:
            msgspec.json.Decoder(type_)
            _LEARNED.add(type_)
    return type_
