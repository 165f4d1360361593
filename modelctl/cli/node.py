"""`modelctl node pull`, `warm`, `ls` and `rm`: what is on this machine. Pods run these; so can you."""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import (
    DebugFlag,
    JobsFlag,
    NodeOutput,
    NodeOutputFlag,
    Output,
    OutputFlag,
    QuietFlag,
    ReferenceArgument,
)
from modelctl.cli.pod import facts_of, last_words
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import ModelctlError
from modelctl.core.paths import NODE_ROOT

if TYPE_CHECKING:
    from modelctl.flows.warm import WarmReport

_RootFlag = Annotated[str, typer.Option("--root", metavar="DIR", help="Where this node keeps models.")]

node = typer.Typer(
    name="node",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="Keep models on this machine: pull, warm, ls, rm. Example: modelctl node warm ./Qwen3-8B",
)


@node.command()
@reaching_registries
def pull(
    reference: ReferenceArgument,
    root: _RootFlag = NODE_ROOT,
    jobs: JobsFlag = None,
    output: NodeOutputFlag = NodeOutput.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Bring a model into ROOT/models/DIGEST, every file proved; models share equal files.

    In a pod the totals, or the error, are also the container's termination message.

    \b
    Example:
      modelctl node pull registry.example/qwen/qwen3-8b:v1 --root /var/lib/modelctl
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.node import node_pull

    events = output is NodeOutput.jsonl
    with _ending(events=events, debug=debug) as say:
        with report.progress("pull", quiet=quiet, events=events) as progress:
            pulled = node_pull(parse_reference(reference), root, jobs, access, progress)
        totals = {"digest": pulled.digest, "files": pulled.files, "size": pulled.size, "shared": pulled.shared}
        say(**totals)
        if events:
            report.print_event("done", reference=pulled.reference, folder=pulled.folder, **totals)
        else:
            shared = f"{human(pulled.shared)} shared with other models"
            report.note(f"{count(pulled.files, 'file')}, {human(pulled.size)}; {shared}", quiet=quiet)
            report.print_result(pulled, output, f"{pulled.folder}\n")


@contextmanager
def _ending(*, events: bool, debug: bool) -> Iterator[Callable[..., None]]:
    """Take the command's last words; as one of its `events` print what it fails with, in place of the usual form."""
    try:
        with last_words() as say:
            yield say
    except ModelctlError as error:
        if events:
            report.print_event("error", **facts_of(error))
        if events and not debug:
            raise typer.Exit(error.exit_status) from error
        raise


@node.command()
def warm(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="A model's folder, or where an artifact is mounted.")],
    table: Annotated[
        str, typer.Option(metavar="DIGEST", help="The table of a mounted artifact; every file of DIR is proved by it.")
    ] = "",
    hold: Annotated[
        bool, typer.Option("--hold", help="Stay, and bring in again what the kernel takes away, until SIGTERM.")
    ] = False,
    interval: Annotated[float, typer.Option(metavar="SECONDS", min=0.1, help="How often --hold looks.")] = 30.0,
    listen: Annotated[
        str, typer.Option(metavar="[HOST]:PORT", help="Where --hold serves /metrics, /healthz and /readyz.")
    ] = "",
    jobs: JobsFlag = None,
    output: NodeOutputFlag = NodeOutput.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Bring every page of a model's files into memory, and count what is there.

    Counted is what a mapping of the files has in memory (its Rss). Ends with status 9 when that is less than all:
    the memory of the machine, or of the container, is too small. --hold ends with status 3 when the model is removed.
    In a pod the totals, or the error, or both, are also the container's termination message.

    \b
    Examples:
      modelctl node warm /var/lib/modelctl/models/9c0e...
      modelctl node warm /models/qwen3-8b --table sha256:... --hold --listen :9464
    """
    from modelctl.core.errors import UsageProblem
    from modelctl.core.types import parse_digest
    from modelctl.flows.hold import hold as stay
    from modelctl.flows.hold import parse_address
    from modelctl.flows.warm import missing_pages, warmed

    events = output is NodeOutput.jsonl

    def brought(size: int) -> None:
        if events:
            report.print_event("repopulated", size=size)
        else:
            report.note(f"{size} bytes were taken away, and are back", quiet=quiet)

    with _ending(events=events, debug=debug) as say:
        if listen and not hold:
            raise UsageProblem("--listen without --hold", why="nothing stays that could answer")
        if not math.isfinite(interval):
            raise UsageProblem(f"--interval {interval}", why="expected a number of seconds")
        address = parse_address(listen) if listen else None
        digest = parse_digest(table) if table else None
        with (
            report.progress("warm", quiet=quiet, events=events) as progress,
            warmed(folder, digest, jobs, progress) as pages,
        ):
            measured = pages.measure()
            totals = {
                "table": measured.table,
                "files": len(measured.files),
                "size": measured.size,
                "resident": measured.resident,
            }
            say(**totals)
            if events:
                _print_events(measured, totals)
            else:
                report.note(f"{human(measured.resident)} of {human(measured.size)} in memory", quiet=quiet)
                lines = "".join(f"{file.resident}  {file.size}  {file.path}\n" for file in measured.files)
                report.print_result(measured, output, lines)
            problem = missing_pages(measured)
            if problem:
                raise problem
            if hold:
                stay(pages, interval, address, brought)


def _print_events(measured: WarmReport, totals: Mapping[str, object]) -> None:
    for file in measured.files:
        report.print_event("file", path=file.path, size=file.size, resident=file.resident)
    report.print_event("done", folder=measured.folder, **totals)


@node.command()
def ls(
    root: _RootFlag = NODE_ROOT,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """List the models of this machine.

    \b
    Example:
      modelctl node ls --root /var/lib/modelctl
    """
    from modelctl.flows.node import node_models

    models = node_models(root)
    report.print_result(models, output, "".join(f"{one.digest}  {one.files}  {one.size}\n" for one in models))


@node.command()
def rm(
    digest: Annotated[str, typer.Argument(metavar="DIGEST", help="The model's manifest, as ls prints it.")],
    root: _RootFlag = NODE_ROOT,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Remove a model from this machine, and the files that no other model has.

    In a pod what was freed, or the error, is also the container's termination message.

    \b
    Example:
      modelctl node rm sha256:9c0e... --root /var/lib/modelctl
    """
    from modelctl.core.types import parse_digest
    from modelctl.flows.node import node_remove

    with last_words() as say:
        removed = node_remove(root, parse_digest(digest))
        say(digest=removed.digest, freed=removed.freed)
    report.note(f"{human(removed.freed)} freed", quiet=quiet)
    report.print_result(removed, output, f"{removed.digest}\n")
