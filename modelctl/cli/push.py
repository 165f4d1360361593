"""`modelctl push`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, IfExistsFlag, JobsFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, Access


@reaching_registries
def push(
    source: ReferenceArgument,
    destinations: Annotated[
        list[str], typer.Argument(metavar="DEST...", help="Where to: REGISTRY/REPOSITORY or oci:PATH, with :TAG.")
    ],
    if_exists: IfExistsFlag = "replace",
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Copy an artifact to registries, or from one to another or to a layout.

    Blobs that are there are skipped, those of another repository of the same registry are mounted. The tag moves
    last. After an interruption the same command sends what is missing.

    \b
    Examples:
      modelctl push oci:./store:v1 registry.example/qwen/qwen3-8b:v1
      modelctl push registry.example/qwen/qwen3-8b:v1 oci:./store:v1
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.push import push as run

    places = [parse_reference(text) for text in destinations]
    with report.progress("push", quiet=quiet) as progress:
        pushed = run(
            parse_reference(source),
            places,
            progress,
            if_exists=if_exists,
            jobs=jobs,
            access=access,
        )
    for one in pushed:
        report.note(
            f"pushed {count(len(one.sent), 'blob')} of {human(one.size)} in all; {len(one.skipped)} were there, "
            f"{len(one.mounted)} mounted" + ("" if one.tagged else f"; tag {one.tag} left as it is"),
            quiet=quiet,
        )
    report.print_result(pushed, output, "".join(f"{one.reference}\n" for one in pushed))
