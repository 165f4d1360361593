"""`modelctl cache ls` and `prune`: what layers hashed to before."""

from __future__ import annotations

import time
from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag
from modelctl.cli.text import count, human

_DAY_S = 86400.0

cache = typer.Typer(
    name="cache",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="What layers hashed to before: ls, prune. Example: modelctl cache ls",
)


@cache.command()
def ls(
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """List the layers whose digests are remembered: when each was last used, its digest, its size and its file.

    \b
    Example:
      modelctl cache ls
    """
    from modelctl.flows.cache import list_cache

    listed = list_cache()
    _note(listed.problem, quiet=quiet)
    lines = [f"{_time(one.used_s)}  {one.digest}  {human(one.size):>9}  {one.title}\n" for one in listed.layers]
    report.print_result(listed, output, "".join(lines))


@cache.command()
def prune(
    older_than: Annotated[
        float, typer.Option(metavar="DAYS", min=0, help="Forget layers that were not used for so long; 0: all.")
    ] = 30.0,
    keep: Annotated[
        int | None, typer.Option(metavar="COUNT", min=0, help="Forget all but so many that were used last.")
    ] = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Forget layers that were not used lately. Their files are read again when they are packed.

    \b
    Examples:
      modelctl cache prune --older-than 7
      modelctl cache prune --keep 1000
    """
    from modelctl.flows.cache import prune_cache
    from modelctl.packing.cache import MAX_ENTRIES

    pruned = prune_cache(older_than * _DAY_S, MAX_ENTRIES if keep is None else keep)
    _note(pruned.problem, quiet=quiet)
    report.print_result(pruned, output, f"{count(pruned.forgotten, 'layer')} forgotten, {pruned.left} left\n")


def _note(problem: str, *, quiet: bool) -> None:
    if problem:
        report.note(f"digest cache: {problem}", quiet=quiet)


def _time(since_1970_s: float) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(since_1970_s))
