"""Nodes of clusters while something is done there: a live table on a terminal, else a line for each change."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from typing import TYPE_CHECKING

from modelctl.cli import report
from modelctl.cli.text import count, human
from modelctl.core.errors import NotFound, Partial, TimedOut
from modelctl.flows.clusters import ClusterReport, Watcher

if TYPE_CHECKING:
    from rich.table import Table

    from modelctl.flows.clusters import NodesReport
    from modelctl.flows.node_jobs import NodeRow

_MOST_NAMED = 10
GOOD = ("Fit", "Started", "Warm", "Held", "Unloaded", "Removed")
"""States that are what was asked for."""

_OPEN = ("Waiting", "Pulling", "Warming", "Removing", "Retrying")
"""States of nodes whose Job was started and has not ended."""


class LineWatcher(Watcher):
    """Writes a line on stderr for each node of the plan, and for each change."""

    def __init__(self, *, quiet: bool) -> None:
        self._quiet = quiet
        self.clusters: list[ClusterReport] = []

    def planned(self, cluster: ClusterReport) -> None:
        self.know(cluster)
        for line in plan_lines(cluster):
            report.note(line, quiet=self._quiet)

    def know(self, cluster: ClusterReport) -> None:
        """Keep a cluster that is heard of for the first time."""
        if not any(known is cluster for known in self.clusters):
            self.clusters.append(cluster)

    def changed(self, cluster: ClusterReport, row: NodeRow) -> None:
        self.know(cluster)
        report.note("  ".join(_cells(cluster, row)).rstrip(), quiet=self._quiet)


class TableWatcher(LineWatcher):
    """Draws all nodes on stderr, while the `with` of `watching` lasts."""

    def changed(self, cluster: ClusterReport, row: NodeRow) -> None:
        """What is drawn are the rows themselves."""
        self.know(cluster)

    def table(self) -> Table:
        from rich.table import Table

        table = Table(box=None, pad_edge=False)
        for name in ("CLUSTER", "NODE", "STATE", "TIME", "RESIDENT", "ATTEMPTS", "MESSAGE"):
            table.add_column(name, no_wrap=name != "MESSAGE")
        rows = [(cluster, row) for cluster in self.clusters for row in cluster.nodes]
        busy = [found for found in rows if found[1].state not in GOOD]
        for cluster, row in busy[: _tallest()] if len(rows) > _tallest() else rows:
            table.add_row(*(report.harmless(cell) for cell in _cells(cluster, row)))
        table.caption = tally([row for _, row in rows])
        table.caption_justify = "left"
        return table


def _tallest() -> int:
    """Return how many rows fit on the terminal."""
    return max(5, os.get_terminal_size(sys.stderr.fileno()).lines - 6)


@contextmanager
def watching(*, quiet: bool) -> Iterator[LineWatcher]:
    """Show nodes on stderr, as a table where it is a terminal; nothing when quiet.

    Of what is interrupted it says how it is left.
    """
    if quiet or not sys.stderr.isatty() or os.environ.get("TERM") == "dumb":
        with _saying_what_is_left(LineWatcher(quiet=quiet), quiet=quiet) as lines:
            yield lines
        return
    from rich.console import Console
    from rich.live import Live

    watcher = TableWatcher(quiet=True)
    with Live(get_renderable=watcher.table, console=Console(stderr=True), refresh_per_second=2):
        with _saying_what_is_left(watcher, quiet=quiet):
            yield watcher


@contextmanager
def _saying_what_is_left(watcher: LineWatcher, *, quiet: bool) -> Iterator[LineWatcher]:
    try:
        yield watcher
    except BaseException:
        if watcher.clusters:
            report.note(left_open(watcher.clusters), quiet=quiet)
        raise


def plan_lines(cluster: ClusterReport) -> Iterator[str]:
    """Yield what stands before anything is done in a cluster."""
    way = f"{cluster.mode} mode ({cluster.why}), namespace {cluster.namespace}: " if cluster.why else ""
    yield f"{cluster.context}: {way}{tally(cluster.nodes) or 'no node matches'}"
    for row in cluster.nodes:
        if row.why:
            yield "  ".join(_cells(cluster, row)).rstrip()


def tally(rows: Sequence[NodeRow]) -> str:
    """Count nodes by state."""
    states = [row.state for row in rows]
    return ", ".join(f"{states.count(state)} {state}" for state in dict.fromkeys(states))


def result_lines(found: NodesReport) -> str:
    """Return the result as text, a line for each node."""
    lines = ["  ".join(_cells(cluster, row)).rstrip() for cluster in found.clusters for row in cluster.nodes]
    return "".join(f"{line}\n" for line in lines)


def left_open(clusters: Sequence[ClusterReport]) -> str:
    """Say how an interrupted job leaves the clusters."""
    rows = [row for cluster in clusters for row in cluster.nodes]
    going = sum(row.state in _OPEN for row in rows)
    goes = "goes" if going == 1 else "go"
    return f"as it is now: {tally(rows) or 'no node'}; {count(going, 'Job')} {goes} on without this command"


def raise_unless_good(found: NodesReport, wanted: str, good: Sequence[str] = GOOD) -> None:
    """Raise what ends the command with its status, unless every node's state is in `good`.

    Raises:
        NotFound: There is no node.
        TimedOut: The time was over before every node was `wanted`. Partial: A node or a cluster failed.
    """
    done = [cluster for cluster in found.clusters if not cluster.problem]
    bad = [(cluster, row) for cluster in done for row in cluster.nodes if row.state not in good]
    problems = [f"{cluster.context}: {cluster.problem}" for cluster in found.clusters if cluster.problem]
    if not bad and not problems:
        if not any(cluster.nodes for cluster in found.clusters):
            raise NotFound(
                "no node", why="no label of any matches the selector", hint="kubectl get nodes --show-labels"
            )
        return
    lines = [f"{cluster.context}/{row.name} {row.state}: {row.why or 'no reason is known'}" for cluster, row in bad]
    lines = problems + lines
    more = [f"and {len(lines) - _MOST_NAMED} more"] if len(lines) > _MOST_NAMED else []
    hints = dict.fromkeys(row.hint for _, row in bad if row.hint)
    what = f"{count(len(bad), 'node')} not {wanted}" if bad else f"{count(len(problems), 'cluster')} not {wanted}"
    error = TimedOut if any(row.state == "TimedOut" for _, row in bad) else Partial
    why = "\n       ".join(lines[:_MOST_NAMED] + more)
    raise error(what, why=why, hint="\n       ".join([*list(hints)[:3], "the same command goes on"]))


def _cells(cluster: ClusterReport, row: NodeRow) -> list[str]:
    resident = f"{human(row.resident)} of {human(row.size)}" if row.size else "-"
    message = row.why + (f" -> {row.hint}" if row.hint else "")
    return [
        cluster.context,
        row.name,
        row.state,
        f"{row.seconds:.0f}s" if row.seconds else "-",
        resident,
        str(row.attempts) if row.attempts else "-",
        message,
    ]
