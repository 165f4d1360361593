"""Regions while an artifact goes there: a live table on a terminal, else a line for each change and now and then."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING, Protocol

from modelctl.cli import report
from modelctl.cli.progress import INTERVAL_S
from modelctl.cli.text import count, human
from modelctl.core.errors import ModelctlError, Partial
from modelctl.flows.region_report import RegionReport, Watcher

if TYPE_CHECKING:
    from rich.table import Table

_COLUMNS = ("REGION", "STATE", "BYTES", "SKIPPED", "SPEED", "ETA", "MESSAGE")


class LineWatcher(Watcher):
    """Writes a line on stderr for each change of a region, and every few seconds for one that moves."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self._began: dict[str, float] = {}
        self._told: dict[str, float] = {}
        self.regions: Sequence[RegionReport] = ()

    def planned(self, regions: Sequence[RegionReport]) -> None:
        self.regions = regions

    def changed(self, region: RegionReport) -> None:
        self._began.setdefault(region.region, time.monotonic())
        self._tell(region)

    def moved(self, region: RegionReport) -> None:
        if time.monotonic() - self._told.get(region.region, 0.0) >= INTERVAL_S:
            self._tell(region)

    def _tell(self, region: RegionReport) -> None:
        self._told[region.region] = time.monotonic()
        report.note("  ".join(self.cells(region)).rstrip(), quiet=self._quiet)

    def cells(self, region: RegionReport) -> list[str]:
        """Return what stands in a region's row."""
        seconds = region.seconds or time.monotonic() - self._began.get(region.region, time.monotonic())
        speed = region.done / max(seconds, 0.001)
        moves = region.state == "Sending" and region.done > 0
        left = f"{(region.size - region.done) / speed:.0f}s" if moves else "-"
        return [
            region.region,
            region.state,
            f"{human(region.done)} of {human(region.size)}",
            count(len(region.skipped) + len(region.mounted), "blob"),
            f"{human(speed)}/s" if region.state == "Sending" else f"{seconds:.0f}s",
            left,
            _message(region),
        ]


class TableWatcher(LineWatcher):
    """Draws all regions on stderr, while the `with` of `watching` lasts."""

    def _tell(self, region: RegionReport) -> None:
        """What is drawn are the rows themselves."""

    def table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in _COLUMNS:
            table.add_column(name, no_wrap=name != "MESSAGE")
        for region in self.regions:
            table.add_row(*(report.harmless(cell) for cell in self.cells(region)))
        return table


@contextmanager
def watching(*, quiet: bool) -> Iterator[LineWatcher]:
    """Show regions on stderr, as a table where it is a terminal; nothing when quiet."""
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        yield LineWatcher(quiet=quiet)
        return
    from rich.console import Console
    from rich.live import Live

    watcher = TableWatcher(quiet=True)
    with Live(get_renderable=watcher.table, console=Console(stderr=True), refresh_per_second=2):
        yield watcher


def result_lines(regions: Sequence[RegionReport]) -> str:
    """Return the result as text, a line for each region."""
    return "".join(
        "  ".join([one.region, one.state, one.reference, _sent(one), _message(one)]).rstrip() + "\n" for one in regions
    )


class Row(Protocol):
    """A region in a result."""

    region: str
    why: str
    hint: str


def raise_unless_done(
    regions: Sequence[Row],
    errors: Mapping[str, ModelctlError],
    *,
    failed: str = "failed",
    again: str = "the same command sends what is missing",
) -> None:
    """Raise what ends the command with its status, when regions `failed`; `again` is the last of the next steps.

    Raises:
        Partial: Some did, or all did for various reasons. ModelctlError: All did, of the one kind.
    """
    if not errors:
        return
    what = f"{len(errors)} of {count(len(regions), 'region')} {failed}"
    kinds = {error.exit_status: type(error) for error in errors.values()}
    kind = next(iter(kinds.values())) if len(kinds) == 1 and len(errors) == len(regions) else Partial
    raise in_one(kind, what, [(one.region, one.why, one.hint) for one in regions], again)


def in_one(
    kind: type[ModelctlError], what: str, rows: Sequence[tuple[str, str, str]], again: str = ""
) -> ModelctlError:
    """Return one error for several things: of each, a row has name, why and hint; `again` is the last hint."""
    lines = [f"{name}: {why}" for name, why, _ in rows if why]
    hints = dict.fromkeys([f"{name}: {hint}" for name, _, hint in rows if hint] + ([again] if again else []))
    return kind(what, why="\n       ".join(lines), hint="\n       ".join(hints))


def _sent(region: RegionReport) -> str:
    would = "to send" if region.state == "Planned" else "sent"
    return f"{count(len(region.sent), 'blob')} {would}, {len(region.skipped)} there, {len(region.mounted)} mounted"


def _message(region: RegionReport) -> str:
    if region.why:
        return region.why + (f" -> {region.hint}" if region.hint else "")
    return f"tag {region.tag} left as it is" if region.state == "Pushed" and not region.tagged else ""
