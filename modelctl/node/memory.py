"""How much memory this process may use."""

from __future__ import annotations

from pathlib import Path

_CGROUPS = Path("/sys/fs/cgroup")
_LIMITS = ("memory.max", "memory/memory.limit_in_bytes")
_UNLIMITED = 1 << 60


def memory_limit(cgroups: Path = _CGROUPS) -> int | None:
    """Return the container's limit [bytes]; None when there is none. Source: kernel, cgroup-v2 and cgroup-v1/memory."""
    for path in (cgroups / name for name in _LIMITS):
        if path.exists():
            text = path.read_text().strip()
            return int(text) if text.isdigit() and int(text) < _UNLIMITED else None
    return None
