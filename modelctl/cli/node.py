"""`modelctl node pull`, `warm`, `ls` and `rm`: what is on this machine. Pods run these; so can you."""

from __future__ import annotations

import json
import math
import os
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, JobsFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, Access
from modelctl.core.paths import NODE_ROOT

if TYPE_CHECKING:
    from modelctl.flows.warm import WarmReport

_RootFlag = Annotated[str, typer.Option("--root", metavar="DIR", help="Where this node keeps models.")]
_TERMINATION_LOG = "/dev/termination-log"

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
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Bring a model into ROOT/models/DIGEST, every file proved; models share equal files.

    \b
    Example:
      modelctl node pull registry.example/qwen/qwen3-8b:v1 --root /var/lib/modelctl
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.node import node_pull

    with report.progress("pull", quiet=quiet) as progress:
        pulled = node_pull(parse_reference(reference), root, jobs, access, progress)
    report.note(
        f"{count(pulled.files, 'file')}, {human(pulled.size)}; {human(pulled.shared)} shared with other models",
        quiet=quiet,
    )
    report.print_result(pulled, output, f"{pulled.folder}\n")


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
    listen: Annotated[str, typer.Option(metavar="[HOST]:PORT", help="Where --hold serves /metrics and /healthz.")] = "",
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Bring every page of a model's files into memory, and count what is there.

    Counted is what a mapping of the files has in memory (its Rss). Ends with status 9 when that is less than all:
    the memory of the machine, or of the container, is too small. In a pod the totals are also its termination message.

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

    if listen and not hold:
        raise UsageProblem("--listen without --hold", why="nothing stays that could answer")
    if not math.isfinite(interval):
        raise UsageProblem(f"--interval {interval}", why="expected a number of seconds")
    address = parse_address(listen) if listen else None
    digest = parse_digest(table) if table else None
    with report.progress("warm", quiet=quiet) as progress, warmed(folder, digest, jobs, progress) as pages:
        measured = pages.measure()
        _tell_pod(measured)
        report.note(f"{human(measured.resident)} of {human(measured.size)} in memory", quiet=quiet)
        lines = "".join(f"{file.resident}  {file.size}  {file.path}\n" for file in measured.files)
        report.print_result(measured, output, lines)
        problem = missing_pages(measured)
        if problem:
            raise problem
        if hold:
            stay(pages, interval, address, lambda text: report.note(text, quiet=quiet))


def _tell_pod(measured: WarmReport) -> None:
    """Leave the totals where the kubelet looks for the container's last words."""
    from modelctl.core.disk import on_disk

    totals = {
        "table": measured.table,
        "files": len(measured.files),
        "size": measured.size,
        "resident": measured.resident,
    }
    if os.path.exists(_TERMINATION_LOG):
        with on_disk(_TERMINATION_LOG), open(_TERMINATION_LOG, "w") as file:
            json.dump(totals, file)


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

    \b
    Example:
      modelctl node rm sha256:9c0e... --root /var/lib/modelctl
    """
    from modelctl.core.types import parse_digest
    from modelctl.flows.node import node_remove

    removed = node_remove(root, parse_digest(digest))
    report.note(f"{human(removed.freed)} freed", quiet=quiet)
    report.print_result(removed, output, f"{removed.digest}\n")
