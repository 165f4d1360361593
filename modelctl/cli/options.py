"""The flags that many commands share, spelled once."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from modelctl.core.choices import IfExists


class Output(StrEnum):
    """How a result is printed on stdout."""

    text = "text"
    json = "json"


class NodeOutput(StrEnum):
    """How `node pull` and `node warm` say what they do: as `Output`, or as events, which a pod's log is read for."""

    text = "text"
    json = "json"
    jsonl = "jsonl"


OutputFlag = Annotated[
    Output, typer.Option("--output", "-o", help="How to print the result: text, or one JSON document.")
]
NodeOutputFlag = Annotated[
    NodeOutput,
    typer.Option(
        "--output",
        "-o",
        help="How to print the result: text, one JSON document, or jsonl: progress, files, result and errors as they "
        "come, each a line of JSON on stdout, for a pod's log.",
    ),
]
QuietFlag = Annotated[bool, typer.Option("--quiet", "-q", help="Show no progress and no notes on stderr.")]
DebugFlag = Annotated[bool, typer.Option("--debug", help="Show a traceback with an error.")]
JobsFlag = Annotated[
    int | None,
    typer.Option(
        "--jobs",
        "-j",
        min=1,
        max=256,
        help="How many shards to work on at once. Without: 4, on local disks at most one for each CPU.",
    ),
]
IfExistsFlag = Annotated[IfExists, typer.Option(help="What to do about a tag that points elsewhere.")]
IncludeFlag = Annotated[
    list[str],
    typer.Option("--include", metavar="GLOB", help="Take only files that match; `*` also matches `/`."),
]
ExcludeFlag = Annotated[list[str], typer.Option("--exclude", metavar="GLOB", help="Leave out files that match.")]
ReferenceArgument = Annotated[
    str,
    typer.Argument(
        metavar="REF",
        help="An artifact: REGISTRY/REPOSITORY or oci:PATH, with :TAG or @DIGEST. Without: latest.",
    ),
]
