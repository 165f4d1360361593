"""Tables of costs, and ratios between them."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from rich.console import Console
from rich.table import Table

from e2e.bench.measure import RUNS, Cost, call, median

Row = tuple[str, Cost, float | None, float | None]


def measure_parts(parts: Mapping[str, Callable[[], None]], clear: Callable[[], object]) -> dict[str, Cost]:
    return {name: median(RUNS, lambda work=work: call(work), clear) for name, work in parts.items()}


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


def compare(
    title: str, parts: dict[str, Cost], ours: dict[str, Cost], peers: dict[str, Cost], volume: int
) -> dict[str, Any]:
    """Print one table: the parts and their sum, ours as a ratio to that, the peers as a ratio to ours."""
    whole = Cost(sum(cost.wall for cost in parts.values()), sum(cost.cpu for cost in parts.values()), 0)
    first = next(iter(ours.values()))
    rows: list[Row] = [(name, cost, None, None) for name, cost in parts.items()]
    rows.append(("sum of the parts", whole, 1.0, 1.0))
    rows += [(f"modelctl {name}", cost, cost.cpu / whole.cpu, cost.wall / whole.wall) for name, cost in ours.items()]
    rows += [(f"{name}, to ours", cost, cost.cpu / first.cpu, cost.wall / first.wall) for name, cost in peers.items()]
    show(title, rows, volume)
    return {name: {"wall_s": cost.wall, "cpu_s": cost.cpu, "rss": cost.rss} for name, cost, *_ in rows} | {
        "cpu_ratio": first.cpu / whole.cpu
    }
