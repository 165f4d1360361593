"""`modelctl diff`."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, JobsFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.cli.sources import at, reading_sources
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess

if TYPE_CHECKING:
    from modelctl.flows.diff import DiffReport, FileDiff
    from modelctl.flows.inspect import TensorReport

DIFFERENT = 14
"""The status of `--exit-code` for a difference; no error has it."""


@reaching_registries
@reading_sources
def diff(
    old: ReferenceArgument,
    new: Annotated[
        str, typer.Argument(metavar="REF|SOURCE", help="Another artifact, or a source: a folder or a SCHEME:// URL.")
    ],
    tensors: Annotated[
        bool, typer.Option("--tensors", help="List the tensors of changed shards that differ, or may.")
    ] = False,
    exit_code: Annotated[
        bool, typer.Option("--exit-code", help=f"End with status {DIFFERENT} when a difference was found.")
    ] = False,
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    source_access: SourceAccess = DEFAULT_SOURCE_ACCESS,
    access: Access = DEFAULT,
) -> None:
    """Show which files and tensors of an artifact differ from those of another one, or of a source.

    Read are tables and headers, of a source also small files; no tensors.

    \b
    Examples:
      modelctl diff oci:./store:v1 oci:./store:v2 --tensors
      modelctl diff registry.example/qwen/qwen3-8b:v1 ./Qwen3-8B --exit-code
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.diff import diff_artifacts, diff_source
    from modelctl.flows.sources import is_source

    reference = parse_reference(old)
    if is_source(new):
        found = diff_source(reference, new, jobs, access=access, source_access=at(source_access, access))
    else:
        found = diff_artifacts(reference, parse_reference(new), jobs, access=access)
    report.print_result(found, output, "\n".join([*_lines(found, tensors=tensors), ""]))
    unknown = sum(file.change == "unknown" for file in found.files)
    if unknown:
        report.note(f"{count(unknown, 'file')}: nothing states their content, and it was not read", quiet=quiet)
    if exit_code and found.differs:
        raise typer.Exit(DIFFERENT)


def _lines(found: DiffReport, *, tensors: bool) -> Iterator[str]:
    differing = [file for file in found.files if file.change not in ("same", "unknown")]
    width = max((len(_name(file)) for file in differing), default=0)
    for file in differing:
        yield f" {_name(file):<{width}} | {_what(file)}"
        for tensor in (file.tensors or []) if tensors else []:
            shapes = " -> ".join(dict.fromkeys(_shape(one) for one in (tensor.old, tensor.new) if one))
            yield f"     {tensor.change:<8}  {shapes}  {tensor.name}"
    yield " " + "; ".join([_counts(found), *_sending(found)])


def _name(file: FileDiff) -> str:
    return f"{file.old_path} => {file.path}" if file.old_path != file.path else file.path


def _what(file: FileDiff) -> str:
    sizes = " -> ".join(dict.fromkeys(human(size) for size in (file.old_size, file.new_size) if size is not None))
    if file.change != "changed":
        return f"{file.change}, {sizes}"
    parts = [sizes]
    parts += [] if file.changed_size is None else [f"{human(file.changed_size)} in chunks that differ"]
    tensors = Counter(tensor.change for tensor in file.tensors or [])
    parts += [f"{count(number, 'tensor')} {change}" for change, number in tensors.items()]
    return ", ".join(parts)


def _shape(tensor: TensorReport) -> str:
    return f"{tensor.dtype} [{','.join(map(str, tensor.shape))}]"


def _counts(found: DiffReport) -> str:
    from modelctl.flows.diff import CHANGES

    numbers = Counter(file.change for file in found.files)
    return ", ".join(f"{numbers[change]} {change}" for change in CHANGES if numbers[change])


def _sending(found: DiffReport) -> list[str]:
    if found.send_size is None or found.send_layers is None:
        return []
    return [f"a push sends {human(found.send_size)}, {count(found.send_layers, 'layer')}"]
