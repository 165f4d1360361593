"""Amounts as Kubernetes writes them. Pure.

Source: apimachinery pkg/api/resource, Quantity.
"""

from __future__ import annotations

import re
from decimal import ROUND_CEILING, Decimal
from typing import Any

_MIB = 1 << 20
_QUANTITY = re.compile(
    r"([+-]?(?:[0-9]{1,30}(?:\.[0-9]{0,30})?|\.[0-9]{1,30}))(?:([KMGTPE]i|[numkMGTPE])|[eE]([+-]?[0-9]{1,2}))?"
)
_UNITS = {
    unit: Decimal(1000) ** power for power, unit in enumerate(["n", "u", "m", "", "k", "M", "G", "T", "P", "E"], -3)
}
_UNITS |= {f"{unit}i": Decimal(1024) ** power for power, unit in enumerate("KMGTPE", 1)}


def parse_quantity(text: Any) -> int:
    """Return what a quantity of bytes means, rounded up [bytes].

    Args:
        text: As an object has it: text, or a number.

    Raises:
        ValueError: It is no quantity.
    """
    found = _QUANTITY.fullmatch(str(text))
    if not found:
        raise ValueError(f"not a quantity: {str(text)[:50]!r}")
    number, unit, exponent = found.groups()
    exact = Decimal(number) * _UNITS[unit or ""] * Decimal(10) ** int(exponent or 0)
    return int(exact.to_integral_value(ROUND_CEILING))


def to_quantity(size: int) -> str:
    """Write a size [bytes] in MiB, rounded up."""
    return f"{-(-size // _MIB)}Mi"


def mib(size: int) -> str:
    """Write a size [bytes] for people, in MiB, rounded down."""
    return f"{size // _MIB} MiB"
