"""`modelctl push`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Annotated, Any

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

if TYPE_CHECKING:
    from modelctl.core.errors import ModelctlError
    from modelctl.flows.push import PushReport


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
    last. After an interruption the same command sends what is missing. Several DESTs get it one after the other.

    To regions it goes side by side, each blob read once for all. A region that is slow delays no other. A region or
    DEST that fails keeps no other from it; when some failed the status is 9.

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
    done: list[PushReport] = []
    try:
        with report.progress("push", quiet=quiet) as progress:
            found, errors = run(
                parse_reference(source),
                places,
                progress,
                if_exists=if_exists,
                attached=attached,
                jobs=jobs,
                access=access,
                done=done.append,
            )
    finally:
        for one in done:
            outcome.pushed(one)
            place = f"{one.reference}: " if places[1:] else ""
            report.note(f"{place}{_told(one)}", quiet=quiet)
    if places[1:] or not errors:
        report.print_result(found, output, "".join(f"{one.reference}\n" for one in done))
    _raise_unless_done(found, errors)


def _told(pushed: PushReport) -> str:
    return (
        f"pushed {count(len(pushed.sent), 'blob')} of {human(pushed.size)} in all; {len(pushed.skipped)} were there, "
        f"{len(pushed.mounted)} mounted" + ("" if pushed.tagged else f"; tag {pushed.tag} left as it is")
    )


def _raise_unless_done(found: Sequence[PushReport], errors: Sequence[ModelctlError]) -> None:
    """Raise what ends the command with its status, when destinations failed.

    Raises:
        Partial: Others have it. ModelctlError: None has it; of the kind of the first failure.
    """
    from modelctl.cli.region_rows import in_one
    from modelctl.core.errors import Partial

    if not errors:
        return
    if len(found) == 1:
        raise errors[0]
    what = f"{len(errors)} of {count(len(found), 'destination')} failed"
    rows = [(one.reference, one.why, one.hint) for one in found]
    if any(one.state == "Pushed" for one in found):
        raise in_one(Partial, what, rows, "the same command sends what is missing")
    raise in_one(type(errors[0]), what, rows)


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
