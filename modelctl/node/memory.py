"""How much memory this process may use."""

from __future__ import annotations

from pathlib import Path

_LIMITS = ("/sys/fs/cgroup/memory.max", "/sys/fs/cgroup/memory/memory.limit_in_bytes")
_UNLIMITED = 1 << 60


def memory_limit() -> int | None:
    """Return the container's limit [bytes]; None when there is none. Source: kernel, cgroup-v2 and cgroup-v1/memory."""
    for path in map(Path, _LIMITS):
        if path.exists():
            text = path.read_text().strip()
            return int(text) if text.isdigit() and int(text) < _UNLIMITED else None
    return None
