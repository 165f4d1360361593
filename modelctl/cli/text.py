"""Numbers as people read them. Pure."""

from __future__ import annotations


def human(size: float) -> str:
    """Write a number of bytes in decimal units, as storage is sold and registries count."""
    for unit in ("B", "kB", "MB", "GB"):
        if size < 1000:
            return f"{size:.0f} {unit}" if unit == "B" else f"{size:.1f} {unit}"
        size /= 1000
    return f"{size:.2f} TB"


def count(number: int, noun: str) -> str:
    return f"{number} {noun}" + ("" if number == 1 else "s")
