"""Tables of costs, and ratios between them."""

from __future__ import annotations

import statistics
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table

from e2e.bench.measure import Cost, Rounds, middle

SUM = "sum of the parts"

Row = tuple[str, Cost, float | None, float | None]


def show(title: str, rows: list[Row], volume: int) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "wall s", "CPU s", "CPU s/GB", "RSS MiB", "CPU ratio", "wall ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, cost, cpu_ratio, wall_ratio in rows:
        table.add_row(
            name,
            f"{cost.wall:.2f}",
            f"{cost.cpu:.2f}",
            f"{cost.cpu / volume * 1e9:.2f}",
            f"{cost.rss >> 20}",
            f"{cpu_ratio:.2f}" if cpu_ratio else "",
            f"{wall_ratio:.2f}" if wall_ratio else "",
        )
    Console(width=120).print(table)


def compare(title: str, rounds: Rounds, parts: Sequence[str], ours: Sequence[str], volume: int) -> dict[str, Any]:
    """Print one table: the parts and their sum, ours as a ratio to that, all others as a ratio to the first of ours.

    A ratio is the median of those of the rounds: what the machine did to a whole round leaves it as it is.
    """
    if parts:
        sums = [_sum(costs) for costs in zip(*(rounds[name] for name in parts), strict=True)]
        rounds = {**rounds, SUM: sums}
    bases = {name: SUM for name in ours if parts} | {
        name: ours[0] for name in rounds if name not in (*parts, *ours, SUM)
    }
    order = [*parts, *([SUM] if parts else []), *ours, *(name for name in rounds if name not in (*parts, *ours, SUM))]
    rows: list[Row] = []
    for name in order:
        base = bases.get(name)
        label = name if base in (None, SUM) else f"{name}, to {base}"
        ratios = _ratios(rounds[name], rounds[base]) if base else (None, None)
        rows.append((label, middle(rounds[name]), *ratios))
    show(title, rows, volume)
    return {
        name: {"wall_s": cost.wall, "cpu_s": cost.cpu, "rss": cost.rss, "cpu_ratio": cpu, "wall_ratio": wall}
        for name, cost, cpu, wall in rows
    }


def _sum(costs: Sequence[Cost]) -> Cost:
    return Cost(sum(cost.wall for cost in costs), sum(cost.cpu for cost in costs), 0)


def _ratios(costs: Sequence[Cost], bases: Sequence[Cost]) -> tuple[float, float]:
    pairs = list(zip(costs, bases, strict=True))
    return (
        statistics.median(cost.cpu / base.cpu for cost, base in pairs),
        statistics.median(cost.wall / base.wall for cost, base in pairs),
    )
