"""What a command leaves for a pipeline: a summary in Markdown, and the references of what is there now.

Both are files that flags name; variables of a CI system are not looked at. What other people wrote (references, names,
answers of registries) stands in code spans and fences, where Markdown has no meaning.
"""

from __future__ import annotations

import re
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from functools import wraps
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl.cli.flags import Command, with_flags
from modelctl.cli.report import harmless
from modelctl.cli.text import count, human
from modelctl.core.errors import ModelctlError

if TYPE_CHECKING:
    from modelctl.flows.pack import PackReport
    from modelctl.flows.push import PushReport
    from modelctl.flows.region_report import RegionReport, RegionsReport

_PANEL = "Pipelines"


@dataclass
class Outcome:
    """What came of a command. It is told the result; how the command ends it sees by itself."""

    summary: str = ""
    refs_file: str = ""
    _facts: list[tuple[str, str]] = field(default_factory=list)
    _table: list[Sequence[str]] = field(default_factory=list)
    _references: list[str] = field(default_factory=list)
    _dry_run: bool = False

    def packed(self, report: PackReport) -> None:
        """Take note of what was packed to one place."""
        new = [layer for layer in report.layers if layer.new]
        there = sum(layer.size for layer in report.layers) - report.new_size
        self._dry_run = report.dry_run
        self._facts = [
            ("model", f"{count(report.files, 'file')}, {human(report.size)}"),
            ("to send" if report.dry_run else "sent", f"{count(len(new), 'layer')}, {human(report.new_size)}"),
            ("there", f"{count(len(report.layers) - len(new), 'layer')}, {human(there)}"),
        ]
        rows = [
            (one.layout, code(one.reference), _tag(one.tag, tagged=one.tagged is not False)) for one in report.artifacts
        ]
        self._table = [("layout", "reference", "tag"), *rows]
        self._references = [one.reference for one in report.artifacts if one.digest]

    def pushed(self, report: PushReport) -> None:
        """Take note of what was pushed to one more place."""
        row = (
            code(report.reference),
            _tag(report.tag, tagged=report.tagged),
            count(len(report.sent), "blob"),
            count(len(report.skipped) + len(report.mounted), "blob"),
        )
        self._facts = [("size", human(report.size))]
        self._table = [*(self._table or [("reference", "tag", "sent", "there or mounted")]), row]
        self._references.append(report.reference)

    def in_regions(self, report: RegionsReport, digests: Sequence[str]) -> None:
        """Take note of how regions are, and of the artifacts that one has in which all went well."""
        self._dry_run = report.dry_run
        self._facts = [
            ("source", code(report.source)),
            *([("digest", code(report.digest))] if report.digest else []),
            ("size", human(report.size)),
            *([("read", human(report.read))] if report.read else []),
        ]
        head = ("region", "state", "reference", "to send" if report.dry_run else "sent", "there or mounted", "seconds")
        self._table = [head, *map(_region, report.regions)]
        self._references = [
            f"{one.reference.removesuffix(f':{one.tag}')}@{digest}"
            for one in report.regions
            for digest in digests
            if one.state == "Pushed"
        ]

    @contextmanager
    def of(self, command: str) -> Iterator[None]:
        """Leave the files when the `with` ends, however it does.

        Raises:
            NotFound, Denied, DiskProblem: A file cannot be written; nothing else was done.
        """
        began = time.monotonic()
        self._write("", "")
        try:
            yield
        except BaseException as error:
            with suppress(ModelctlError):
                self._write(f"### modelctl {command}: {_ending(error)}", fence(_text(error)), began)
            raise
        self._write(f"### modelctl {command}: {'dry run' if self._dry_run else 'done'}", "", began)

    def _write(self, title: str, problem: str, began: float = 0.0) -> None:
        from modelctl.core.disk import on_disk

        if self.refs_file:
            with on_disk(self.refs_file), open(self.refs_file, "w", encoding="utf-8") as file:
                file.writelines(f"{reference}\n" for reference in self._references)
        if self.summary:
            facts = [("", ""), *self._facts, ("time", f"{time.monotonic() - began:.0f} s")]
            parts = [title, _table(facts), _table(self._table), problem] if title else []
            text = "".join(f"{part}\n\n" for part in parts if part)
            with on_disk(self.summary), open(self.summary, "a", encoding="utf-8", errors="backslashreplace") as file:
                file.write(text)


def _flags(
    summary: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Append what came of it, in Markdown, as CI shows it; failures too.",
            rich_help_panel=_PANEL,
        ),
    ] = "",
    refs_file: Annotated[
        str,
        typer.Option(
            metavar="FILE",
            help="Write the references by digest of what is there now, a line each.",
            rich_help_panel=_PANEL,
        ),
    ] = "",
) -> Outcome:
    return Outcome(summary, refs_file)


def leaving_files(command: Command) -> Command:
    """Give a command the flags of `Outcome`; it receives one as its parameter `outcome`, and tells it the result."""

    @wraps(command)
    def watched(*, outcome: Outcome, **values: Any) -> None:
        with outcome.of(command.__name__):
            command(outcome=outcome, **values)

    return with_flags("outcome", _flags)(watched)


def code(text: str) -> str:
    """Return text as a code span that is one cell of a table, whatever is in it."""
    line = " ".join(harmless(text).split()).replace("|", r"\|")
    ticks = "`" * (_longest_run(line) + 1)
    padding = " " if "`" in line else ""
    return f"{ticks}{padding}{line}{padding}{ticks}" if line else ""


def fence(text: str) -> str:
    """Return text as a fenced block, whatever is in it."""
    ticks = "`" * max(3, _longest_run(text) + 1)
    return f"{ticks}text\n{harmless(text)}\n{ticks}"


def _longest_run(text: str) -> int:
    return max(map(len, re.findall("`+", text)), default=0)


def _table(rows: Sequence[Sequence[str]]) -> str:
    lines = [f"| {' | '.join(row)} |" for row in rows]
    return "\n".join([lines[0], "|" + "---|" * len(rows[0]), *lines[1:]]) if rows else ""


def _region(one: RegionReport) -> Sequence[str]:
    state = f"{one.state}, tag left as it is" if one.state == "Pushed" and not one.tagged else one.state
    whole = one.state in ("Pushed", "Untagged")
    spared = f", {human(max(0, one.size - one.bytes))}" if whole else ""
    return (
        code(one.region),
        state,
        code(one.reference),
        f"{count(len(one.sent), 'blob')}, {human(one.bytes)}",
        f"{count(len(one.skipped) + len(one.mounted), 'blob')}{spared}",
        f"{one.seconds:.1f}",
    )


def _tag(tag: str, *, tagged: bool) -> str:
    return code(tag) if tagged else f"{code(tag)} left as it is"


def _ending(error: BaseException) -> str:
    if isinstance(error, ModelctlError):
        return f"{error.code} ({error.exit_status})"
    return "internal (1)" if isinstance(error, Exception) else "interrupted"


def _text(error: BaseException) -> str:
    if isinstance(error, ModelctlError):
        return str(error)
    if isinstance(error, Exception):
        return f"internal: {type(error).__name__}: {error}"
    return "interrupted: what is done stays done; the same command goes on"
