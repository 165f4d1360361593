"""`modelctl verify`."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, JobsFlag, Output, OutputFlag, QuietFlag
from modelctl.cli.text import count
from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import Depth
from modelctl.core.errors import ChecksumMismatch, UsageProblem

if TYPE_CHECKING:
    from modelctl.core.progress import Progress
    from modelctl.flows.verify import VerifyReport


@reaching_registries
def verify(
    subject: Annotated[
        str,
        typer.Argument(
            metavar="REF|DIR", help="An artifact (REGISTRY/REPOSITORY or oci:PATH, with :TAG or @DIGEST) or a folder."
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
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Prove an artifact, or a folder against one; name every bad shard and chunk.

    Prints the CRC-32s of the bytes it read, as a crc32.txt. Ends with status 4 when something is wrong.

    \b
    Examples:
      modelctl verify oci:./store:v1 --depth full
      modelctl verify ./Qwen3-8B --against oci:./store:v1 --depth crc
      modelctl verify ./Qwen3-8B --crc32-file crc32.txt
    """
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
