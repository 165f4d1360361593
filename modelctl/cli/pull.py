"""`modelctl pull`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import (
    DebugFlag,
    ExcludeFlag,
    IncludeFlag,
    JobsFlag,
    Output,
    OutputFlag,
    QuietFlag,
    ReferenceArgument,
)
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, Access


@reaching_registries
def pull(
    reference: ReferenceArgument,
    target: Annotated[str, typer.Argument(metavar="DIR", help="The folder to fill; made when it is not there.")],
    include: IncludeFlag = [],
    exclude: ExcludeFlag = [],
    overwrite: Annotated[
        bool, typer.Option("--overwrite", help="Replace files that are in the way. Others are left alone.")
    ] = False,
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Restore the files of an artifact in a folder.

    A file appears under its name when every chunk of it is proved against the manifest's digest. After an
    interruption the same command goes on where it stopped. A folder that holds anything else is refused.

    \b
    Examples:
      modelctl pull oci:./store:v1 ./Qwen3-8B
      modelctl pull oci:./store:v1 ./Qwen3-8B --include '*.json'
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.pull import PullOptions
    from modelctl.flows.pull import pull as run

    options = PullOptions(include=include, exclude=exclude, overwrite=overwrite, jobs=jobs, access=access)
    with report.progress("pull", quiet=quiet) as progress:
        pulled = run(parse_reference(reference), target, options, progress)
    report.note(
        f"pulled {count(pulled.files, 'file')}, {human(pulled.size)}; {pulled.present} were there already",
        quiet=quiet,
    )
    report.print_result(pulled, output, f"{pulled.reference}\n")
