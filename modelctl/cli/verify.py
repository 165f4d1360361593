"""`modelctl verify`."""

from __future__ import annotations

import os
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, JobsFlag, Output, OutputFlag, QuietFlag
from modelctl.cli.region_flags import CONCURRENCY, PANEL, ConcurrencyFlag
from modelctl.cli.text import count
from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import Depth
from modelctl.core.errors import ChecksumMismatch, UsageProblem

if TYPE_CHECKING:
    from modelctl.core.progress import Progress
    from modelctl.flows.verify import VerifyReport
    from modelctl.flows.verify_regions import RegionsVerdict


@reaching_registries
def verify(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR|NAME",
            help="An artifact (REGISTRY/REPOSITORY or oci:PATH, with :TAG or @DIGEST), a folder, or with --regions the "
            "artifact's name in every region.",
        ),
    ],
    against: Annotated[str, typer.Option(metavar="REF", help="The artifact that a folder must equal.")] = "",
    crc32_file: Annotated[str, typer.Option(metavar="PATH", help="The crc32.txt that a folder must match.")] = "",
    depth: Annotated[
        Depth,
        typer.Option(
            help="size: no content is read. crc: every file, against its CRCs. full: every byte, against "
            "layer digests, tar headers, chunk table and the safetensors validator."
        ),
    ] = "full",
    regions: Annotated[
        str,
        typer.Option(metavar="NAME,...|all", help="Where to look: regions of the settings.", rich_help_panel=PANEL),
    ] = "",
    repair: Annotated[
        bool,
        typer.Option(
            "--repair",
            help="Send what is bad or missing in a region again, from one that has it right, and verify it again.",
            rich_help_panel=PANEL,
        ),
    ] = False,
    origin: Annotated[
        str,
        typer.Option(
            "--from",
            metavar="REF",
            help="What every region should have, in a layout or another registry; it has good copies too.",
            rich_help_panel=PANEL,
        ),
    ] = "",
    concurrency: ConcurrencyFlag = None,
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Prove an artifact, or a folder against one; name every bad shard and chunk.

    Prints the CRC-32s of the bytes it read, as a crc32.txt. Ends with status 4 when something is wrong.

    With --regions it says which region has a bad copy of which shard, lacks it, or has the tag at another digest; the
    status is then 9 when some regions are not right. Nothing is changed without --repair.

    \b
    Examples:
      modelctl verify oci:./store:v1 --depth full
      modelctl verify ./Qwen3-8B --against oci:./store:v1 --depth crc
      modelctl verify ./Qwen3-8B --crc32-file crc32.txt
      modelctl verify qwen/qwen3-8b:v1 --regions all --depth crc --repair
    """
    if regions:
        if against or crc32_file:
            raise UsageProblem(
                "--against and --crc32-file are for folders", why="--regions is for what is in registries"
            )
        options = {"depth": depth, "repair": repair, "jobs": jobs, "access": access}
        at_once = concurrency or CONCURRENCY
        _of_regions(subject, regions, origin, output=output, quiet=quiet, concurrency=at_once, **options)
        return
    if repair or origin or concurrency:
        raise UsageProblem("--repair, --from and --concurrency", why="they go with --regions")
    with report.progress("verify", quiet=quiet) as progress:
        verified = _verify(subject, against, crc32_file, depth, jobs, progress, access)
    print_verified(verified, output, quiet=quiet)


def print_verified(verified: VerifyReport, output: Output, *, quiet: bool) -> None:
    """Print what was found; raise `ChecksumMismatch` when something is wrong."""
    for path in verified.extra:
        report.note(f"not named by {verified.against}: {path}", quiet=quiet)
    right = len(verified.files) - len(verified.bad)
    report.note(f"{right} of {count(len(verified.files), 'file')} right, depth {verified.depth}", quiet=quiet)
    report.print_result(verified, output, verified.crc32_list())
    if verified.bad:
        raise _problem(verified)


def _of_regions(subject: str, regions: str, origin: str, *, output: Output, quiet: bool, **options: Any) -> None:
    """Verify an artifact in regions, print what was found, and raise what ends the command."""
    from modelctl.cli.region_rows import raise_unless_done
    from modelctl.core.reference import is_reference, parse_reference
    from modelctl.flows.verify_region import RegionVerdict
    from modelctl.flows.verify_regions import VerifyOptions, verify_regions

    def tell(region: RegionVerdict) -> None:
        report.note(f"{region.region}  {region.state}", quiet=quiet)

    wanted = VerifyOptions(origin=parse_reference(origin) if origin else None, **options)
    named = parse_reference(subject) if is_reference(subject) else subject
    with report.progress("verify", quiet=quiet) as progress:
        found, errors = verify_regions(named, regions.split(","), wanted, progress, tell)
    report.print_result(found, output, "".join(_region_lines(found)))
    raise_unless_done(found.regions, errors, failed="not right", again="")


def _region_lines(found: RegionsVerdict) -> Iterator[str]:
    """Yield a line for each region, and below it one for each file that is not right there, and how it is now."""
    width = max((len(one.region) for one in found.regions), default=0)
    for one in found.regions:
        right = one.blobs - sum(not bad.repaired_from for bad in one.bad)
        seen = f"{right} of {count(one.blobs, 'blob')} right" if one.blobs else one.why
        yield f"{one.region:{width}}  {one.state:8}  {one.digest or '-'}  {seen}\n"
        for bad in one.bad:
            end = f"  repaired from {bad.repaired_from}" if bad.repaired_from else ""
            for file in bad.files:
                yield f"{'':{width}}  {file.path}  {bad.digest}  {'; '.join(file.problems)}{end}\n"


def _verify(
    subject: str, against: str, crc32_file: str, depth: Depth, jobs: int | None, progress: Progress, access: Access
) -> VerifyReport:
    from modelctl.core.reference import is_reference, parse_reference
    from modelctl.flows.verify import verify_artifact, verify_crc32_list, verify_folder

    if is_reference(subject) and not os.path.isdir(subject):
        if against or crc32_file:
            raise UsageProblem("--against and --crc32-file are for folders", why=f"{subject} is proved by itself")
        return verify_artifact(parse_reference(subject), depth, jobs, progress, access=access)
    if bool(against) == bool(crc32_file):
        raise UsageProblem(
            f"verify {subject}: against what?",
            why="a folder is proved against an artifact or a list",
            hint=f"modelctl verify {subject} --against REF, or --crc32-file PATH",
        )
    if against:
        return verify_folder(subject, parse_reference(against), depth, jobs, progress, access=access)
    return verify_crc32_list(subject, crc32_file, jobs, progress)


def _problem(verified: VerifyReport) -> ChecksumMismatch:
    lines = [f"{file.path}: {problem}" for file in verified.bad for problem in file.problems]
    return ChecksumMismatch(
        f"{verified.subject}: {len(verified.bad)} of {count(len(verified.files), 'file')} are bad",
        why="\n       ".join(lines),
        hint="pack, copy or pull these files again",
    )
