"""`modelctl push`."""

from __future__ import annotations

from typing import Annotated, Any

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, IfExistsFlag, JobsFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.cli.region_flags import (
    CONCURRENCY,
    PANEL,
    BandwidthFlag,
    ConcurrencyFlag,
    RegionsFlag,
    TagWhenFlag,
    ToFlag,
    rate_of,
)
from modelctl.cli.summary import Outcome, leaving_files
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, Access


@reaching_registries
@leaving_files
def push(
    source: ReferenceArgument,
    destinations: Annotated[
        list[str], typer.Argument(metavar="[DEST...]", help="Where to: REGISTRY/REPOSITORY or oci:PATH, with :TAG.")
    ] = [],
    regions: RegionsFlag = "",
    to: ToFlag = "",
    concurrency: ConcurrencyFlag = None,
    bandwidth: BandwidthFlag = "",
    tag_when: TagWhenFlag = "each",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Only say what each region lacks.", rich_help_panel=PANEL)
    ] = False,
    if_exists: IfExistsFlag = "replace",
    attached: Annotated[
        str,
        typer.Option(
            metavar="all|none|TYPE,...",
            help="Which attached artifacts go along: by artifact type, in which `*` stands for anything, or sig, att "
            "and sbom for cosign's tags.",
        ),
    ] = "all",
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
    *,
    outcome: Outcome,
) -> None:
    """Copy an artifact to registries, or from one to another or to a layout.

    Blobs that are there are skipped, those of another repository of the same registry are mounted. The tag moves
    last. After an interruption the same command sends what is missing.

    To regions it goes side by side, each blob read once for all. A region that is slow or fails delays no other;
    when some failed the status is 9.

    \b
    Examples:
      modelctl push oci:./store:v1 registry.example/qwen/qwen3-8b:v1
      modelctl push registry.example/qwen/qwen3-8b:v1 oci:./store:v1
      modelctl push oci:./store:v1 registry.example/qwen/qwen3-8b:v1 --attached 'sig,application/vnd.in-toto*'
      modelctl push oci:./store:v1 --regions cn-hangzhou,cn-beijing --to qwen/qwen3-8b:v1
      modelctl push hub.example/qwen/qwen3-8b:v1 --regions all --bandwidth 2Gbit --tag-when all --dry-run -o json
    """
    from modelctl.core.errors import UsageProblem
    from modelctl.core.reference import parse_reference
    from modelctl.flows.push import push as run

    if bool(destinations) == bool(regions):
        raise UsageProblem(
            "nowhere to push to" if not regions else "both DEST and --regions",
            why="expected either",
            hint=f"modelctl push {source} REGISTRY/REPOSITORY:TAG, or --regions NAME,...",
        )
    if regions:
        options = {
            "concurrency": concurrency or CONCURRENCY,
            "tag_when": tag_when,
            "dry_run": dry_run,
            "if_exists": if_exists,
        }
        _to_regions(
            source,
            to,
            regions,
            bandwidth,
            outcome,
            output=output,
            quiet=quiet,
            jobs=jobs,
            attached=attached,
            access=access,
            **options,
        )
        return
    if to or concurrency or bandwidth or dry_run or tag_when != "each":
        raise UsageProblem("--to, --concurrency, --bandwidth, --dry-run and --tag-when", why="they go with --regions")
    places = [parse_reference(text) for text in destinations]
    with report.progress("push", quiet=quiet) as progress:
        pushed = run(
            parse_reference(source),
            places,
            progress,
            if_exists=if_exists,
            attached=attached,
            jobs=jobs,
            access=access,
            done=outcome.pushed,
        )
    for one in pushed:
        report.note(
            f"pushed {count(len(one.sent), 'blob')} of {human(one.size)} in all; {len(one.skipped)} were there, "
            f"{len(one.mounted)} mounted" + ("" if one.tagged else f"; tag {one.tag} left as it is"),
            quiet=quiet,
        )
    report.print_result(pushed, output, "".join(f"{one.reference}\n" for one in pushed))


def _to_regions(
    source: str,
    to: str,
    regions: str,
    bandwidth: str,
    outcome: Outcome,
    *,
    output: Output,
    quiet: bool,
    **options: Any,
) -> None:
    """Push to regions, show how it goes, print the result, and raise what ends the command."""
    from modelctl.cli.region_rows import raise_unless_done, result_lines, watching
    from modelctl.core.reference import parse_reference
    from modelctl.flows.push_regions import push_regions
    from modelctl.flows.region_jobs import RegionOptions

    wanted = RegionOptions(rate=rate_of(bandwidth), **options)
    with watching(quiet=quiet) as watcher:
        found, errors = push_regions(parse_reference(source), to, regions.split(","), wanted, watcher)
    outcome.in_regions(found, [found.digest])
    report.print_result(found, output, result_lines(found.regions))
    raise_unless_done(found.regions, errors)
