"""Rates of transfer, as people write them. Pure."""

from __future__ import annotations

import re

PATTERN = r"^([0-9]+(?:\.[0-9]+)?) ?([kMGT]i?)?(bit|B)(?:/s)?$"
"""`2Gbit` or `250MB`: bits or bytes a second, by thousands; by 1024 with an `i`, as in `100MiB`."""

_POWERS = {"": 0, "k": 1, "M": 2, "G": 3, "T": 4}


def parse_rate(text: str) -> float:
    """Return a rate [bytes/s]; ValueError when it is none, or nothing would move."""
    found = re.match(PATTERN, text)
    number, prefix, unit = found.groups() if found else ("0", "", "")
    factor = 1024 if (prefix or "").endswith("i") else 1000
    rate: float = float(number) * factor ** _POWERS[(prefix or "").removesuffix("i")] / (8 if unit == "bit" else 1)
    if not rate:
        raise ValueError(f"not a rate: {text[:50]!r}; 2Gbit or 250MB is one, a second")
    return rate
