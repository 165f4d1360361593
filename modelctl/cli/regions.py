"""`modelctl regions ls` and `check`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.doctor import lines_of
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag
from modelctl.cli.text import human
from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import Partial, UsageProblem

regions = typer.Typer(
    name="regions",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    help="The regions of the settings: ls, check. Example: modelctl regions check --all",
)


@regions.command()
def ls(
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """List the regions: name, registry and namespace, where credentials come from, limits.

    \b
    Example:
      modelctl regions ls
    """
    from modelctl.flows.check_regions import list_regions

    listed = list_regions()
    lines = []
    for one in listed.regions:
        limits = [f"{human(one.bandwidth)}/s"] * bool(one.bandwidth)
        limits += [f"{one.connections} connections"] * bool(one.connections)
        place = f"{one.registry}/{one.namespace}" if one.namespace else one.registry
        lines.append(f"{one.name}  {place}  {one.credentials}  {', '.join(limits) or '-'}\n")
    report.print_result(listed, output, "".join(lines))


@regions.command()
@reaching_registries
def check(
    names: Annotated[list[str], typer.Argument(metavar="[NAME...]", help="Regions of the settings.")] = [],
    all_regions: Annotated[bool, typer.Option("--all", help="Every region.")] = False,
    to: Annotated[
        str, typer.Option(metavar="REPOSITORY", help="Prove the rights to pull and push there, below the namespace.")
    ] = "",
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Look whether regions can be reached, and what may be done there: nothing is left behind.

    The right to push is proved by an upload that is opened and given up. Ends with status 9 when there is a problem
    with some region.

    \b
    Examples:
      modelctl regions check --all
      modelctl regions check cn-hangzhou cn-beijing --to qwen/qwen3-8b
    """
    from modelctl.flows.check_regions import check_regions
    from modelctl.flows.regions import ALL

    if bool(names) == all_regions:
        raise UsageProblem("which regions?", why="name some, or say --all", hint="modelctl regions ls")
    checked = check_regions((ALL,) if all_regions else names, to, access)
    report.print_result(checked, output, "".join(lines_of([one for region in checked for one in region.findings])))
    bad = [region.region for region in checked if not region.ok]
    if bad:
        raise Partial(f"{len(bad)} of {len(checked)} regions cannot be used", why=", ".join(bad))
