"""The flags of commands that send to regions, spelled once."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.core.choices import TagWhen

PANEL = "Regions"
CONCURRENCY = 16

RegionsFlag = Annotated[
    str, typer.Option(metavar="NAME,...|all", help="Where to: regions of the settings.", rich_help_panel=PANEL)
]
ToFlag = Annotated[
    str,
    typer.Option(
        metavar="NAME[:TAG]",
        help="The name in every region. Without: the source's, where that is in a registry.",
        rich_help_panel=PANEL,
    ),
]
PackToFlag = Annotated[str, typer.Option(metavar="NAME[:TAG]", help="The name in every region.", rich_help_panel=PANEL)]
ConcurrencyFlag = Annotated[
    int | None,
    typer.Option(min=1, max=256, help=f"How many regions at once. Without: {CONCURRENCY}.", rich_help_panel=PANEL),
]
BandwidthFlag = Annotated[
    str,
    typer.Option(
        metavar="RATE",
        help="At most so much a second to all regions together, in bits or bytes: 2Gbit, 250MB. That of one region "
        "is in its settings.",
        rich_help_panel=PANEL,
    ),
]
TagWhenFlag = Annotated[
    TagWhen,
    typer.Option(
        help="Set the tag in each region when that has all, or in all when every one has.", rich_help_panel=PANEL
    ),
]


def rate_of(bandwidth: str) -> float:
    """Return the rate that `--bandwidth` says [bytes/s], 0 for any; `UsageProblem` when it is none."""
    from modelctl.core.errors import UsageProblem
    from modelctl.core.rates import parse_rate

    try:
        return parse_rate(bandwidth) if bandwidth else 0.0
    except ValueError as error:
        raise UsageProblem("--bandwidth", why=str(error)) from error
