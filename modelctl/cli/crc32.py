"""`modelctl crc32`."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.options import DebugFlag, JobsFlag, Output, OutputFlag, QuietFlag
from modelctl.cli.verify import print_verified


def crc32(
    folder: Annotated[str, typer.Argument(metavar="DIR", help="The folder.")],
    check: Annotated[bool, typer.Option("--check", help="Compare with the folder's own crc32.txt.")] = False,
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Print the CRC-32 of every file as a crc32.txt, or check the folder against the one it holds.

    \b
    Examples:
      modelctl crc32 ./Qwen3-8B > crc32.txt
      modelctl crc32 --check ./Qwen3-8B
    """
    from modelctl.flows.crc32 import compute_crc32s
    from modelctl.flows.verify import verify_crc32_list

    with report.progress("crc32", quiet=quiet) as progress:
        if check:
            verified = verify_crc32_list(folder, "", jobs, progress)
        else:
            computed = compute_crc32s(folder, jobs, progress)
    if check:
        print_verified(verified, output, quiet=quiet)
    else:
        report.print_result(computed, output, computed.crc32_list())
