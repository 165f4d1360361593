"""`modelctl inspect`."""

from __future__ import annotations

from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, Access

if TYPE_CHECKING:
    from modelctl.flows.inspect import InspectReport


@reaching_registries
def inspect(
    reference: ReferenceArgument,
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List the tensors of every shard, from its header.")
    ] = False,
    raw: Annotated[bool, typer.Option("--raw", help="Print the manifest to the byte, and nothing else.")] = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Show what an artifact is made of: layers, files, checksums, tensors.

    \b
    Examples:
      modelctl inspect oci:./store:v1 --tensors
      modelctl inspect oci:./store:v1 --raw | sha256sum
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.inspect import inspect as run
    from modelctl.flows.inspect import read_manifest

    if raw:
        report.print_bytes(read_manifest(parse_reference(reference), access))
        return
    inspected = run(parse_reference(reference), tensors=tensors, access=access)
    report.print_result(inspected, output, "\n".join([*_lines(inspected), ""]))


def _lines(inspected: InspectReport) -> Iterator[str]:
    yield f"reference    {inspected.reference}"
    yield f"config       {inspected.config_media_type}"
    if inspected.artifact_type:
        yield f"artifact     {inspected.artifact_type}"
    if inspected.subject:
        yield f"subject      {inspected.subject}"
    for key, value in inspected.annotations.items():
        yield f"annotation   {key}={value}"
    yield f"files        {count(inspected.files, 'file')}, {human(inspected.size)}"
    for number, layer in enumerate(inspected.layers, 1):
        yield f"layer {number:<6} {layer.digest}  {human(layer.size)}  {layer.kind}"
        for file in layer.files:
            yield f"    {file.crc32}  {human(file.size):>9}  {inspected.prefix}{file.path}"
            for tensor in file.tensors or []:
                shape = ",".join(map(str, tensor.shape))
                yield f"        {tensor.dtype:<5} [{shape}]  {human(tensor.size)} at {tensor.offset}  {tensor.name}"
    for attached in inspected.attached:
        yield f"attached     {attached.digest}  {human(attached.size)}  {attached.artifact_type}"
        if attached.source:
            revision = f" at {attached.revision}" if attached.revision else ""
            yield f"    made from {attached.source}{revision} by modelctl {attached.version}"
