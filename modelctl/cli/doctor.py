"""`modelctl doctor`."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag
from modelctl.cli.sources import at, reading_sources
from modelctl.cli.text import count
from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess
from modelctl.core.errors import Partial

if TYPE_CHECKING:
    from modelctl.flows.findings import Finding


@reaching_registries
@reading_sources
def doctor(
    source: Annotated[
        str, typer.Argument(metavar="[SOURCE]", help="What would be read: a folder, a URL, or an artifact.")
    ] = "",
    destination: Annotated[
        str, typer.Argument(metavar="[REF]", help="Where it would go: REGISTRY/REPOSITORY or oci:PATH.")
    ] = "",
    regions: Annotated[str, typer.Option(metavar="NAME,...|all", help="Or to these regions of the settings.")] = "",
    to: Annotated[
        str, typer.Option(metavar="REPOSITORY", help="Its name there. Without: that of an artifact in a registry.")
    ] = "",
    layout: Annotated[str, typer.Option(metavar="NAME", help="In which the source would be packed.")] = "image",
    max_layers: Annotated[int, typer.Option(min=1, help="And in at most so many layers.")] = 110,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
    source_access: SourceAccess = DEFAULT_SOURCE_ACCESS,
) -> None:
    """Look at all that a pack or push will need, before a byte moves.

    Reach, TLS, clock, credentials and rights of registries, what each kind of registry takes at most, rights at the
    source, space on disk. Without arguments: all regions. Nothing is left behind. Ends with status 9 when there is a
    problem.

    \b
    Examples:
      modelctl doctor ./Qwen3-8B registry.example/qwen/qwen3-8b:v1
      modelctl doctor oss://models/qwen3-8b --regions all --to qwen/qwen3-8b
      modelctl doctor registry.example/qwen/qwen3-8b -o json
    """
    from modelctl.flows.doctor import DoctorOptions
    from modelctl.flows.doctor import doctor as run

    options = DoctorOptions(
        regions=[name for name in regions.split(",") if name],
        to=to,
        layout=layout,
        max_layers=max_layers,
        access=access,
        source=at(source_access, access),
    )
    found = run(source, destination, options)
    report.print_result(found, output, "".join(lines_of(found.findings)))
    problems = [one for one in found.findings if one.state == "problem"]
    if problems:
        why = ", ".join(f"{one.subject} {one.check}" for one in problems)
        raise Partial(count(len(problems), "problem"), why=why, hint=problems[0].hint)


def lines_of(findings: Sequence[Finding]) -> Iterator[str]:
    """Write findings for people, each with what to do."""
    width = max((len(f"{one.subject}  {one.check}") for one in findings), default=0)
    for one in findings:
        yield f"{one.state:<7}  {f'{one.subject}  {one.check}':<{width}}  {one.seen}\n"
        if one.hint:
            yield f"  try: {one.hint}\n"
