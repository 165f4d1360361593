"""`modelctl pack`."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Any

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import (
    DebugFlag,
    ExcludeFlag,
    IfExistsFlag,
    IncludeFlag,
    JobsFlag,
    Output,
    OutputFlag,
    QuietFlag,
)
from modelctl.cli.region_flags import (
    CONCURRENCY,
    BandwidthFlag,
    ConcurrencyFlag,
    PackToFlag,
    RegionsFlag,
    TagWhenFlag,
    rate_of,
)
from modelctl.cli.sources import at, reading_sources
from modelctl.cli.summary import Outcome, leaving_files
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess
from modelctl.core.errors import UsageProblem

if TYPE_CHECKING:
    from modelctl.flows.pack import PackOptions, PackReport


@reaching_registries
@reading_sources
@leaving_files
def pack(
    source: Annotated[
        str,
        typer.Argument(
            metavar="SOURCE",
            help="The model: a folder, oss://BUCKET/PREFIX, modelscope:// or hf://OWNER/NAME[@REVISION].",
        ),
    ],
    reference: Annotated[
        str,
        typer.Argument(metavar="[REF]", help="Where to: REGISTRY/REPOSITORY or oci:PATH, with :TAG. Without: latest."),
    ] = "",
    regions: RegionsFlag = "",
    to: PackToFlag = "",
    concurrency: ConcurrencyFlag = None,
    bandwidth: BandwidthFlag = "",
    tag_when: TagWhenFlag = "each",
    layout: Annotated[
        str,
        typer.Option(
            help="Layouts, by name or path of a .toml: image, modelpack, raw, kserve. "
            "Several, with commas, must share their blobs: image,modelpack."
        ),
    ] = "image",
    include: IncludeFlag = [],
    exclude: ExcludeFlag = [],
    annotation: Annotated[
        list[str],
        typer.Option(metavar="KEY=VALUE", help="An annotation of the manifest. Part of its digest."),
    ] = [],
    allow_pickle: Annotated[
        bool,
        typer.Option("--allow-pickle", help="Pack .bin, .pt, .pth, .ckpt, .pkl files too; they are never loaded."),
    ] = False,
    crc32_file: Annotated[
        str,
        typer.Option(metavar="PATH", help="Check the files against this list, not the model's own crc32.txt."),
    ] = "",
    max_layers: Annotated[
        int, typer.Option(min=2, help="Above it, neighbouring shards share a layer. Raw layers do not count.")
    ] = 110,
    if_exists: IfExistsFlag = "replace",
    dry_run: Annotated[
        bool, typer.Option("--dry-run", help="Check everything, show the layers, write nothing.")
    ] = False,
    memory: Annotated[
        int, typer.Option(metavar="MIB", min=4, max=4096, help="How much to read ahead of a bucket or hub, in all.")
    ] = 80,
    cache: Annotated[
        bool, typer.Option("--cache/--no-cache", help="Do not read again what is known not to have changed.")
    ] = True,
    provenance: Annotated[
        bool, typer.Option("--provenance/--no-provenance", help="Attach a statement of what was packed.")
    ] = True,
    jobs: JobsFlag = None,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    source_access: SourceAccess = DEFAULT_SOURCE_ACCESS,
    access: Access = DEFAULT,
    *,
    outcome: Outcome,
) -> None:
    """Pack a model into an OCI artifact, one layer a shard, reading each file once.

    Prints the artifact's reference by digest. The same files give the same digest on every machine.

    To regions it goes at once, each file read once for all; then a line is printed for each. A region that is slow or
    fails delays no other; when some failed the status is 9, and the same command sends what is missing.

    \b
    Examples:
      modelctl pack ./Qwen3-8B oci:./store:v1
      modelctl pack ./Qwen3-8B registry.example/qwen/qwen3-8b:v1
      modelctl pack oss://models/qwen3-8b registry.example/qwen/qwen3-8b:v1 --endpoint oss-cn-hangzhou.aliyuncs.com
      modelctl pack hf://Qwen/Qwen3-8B@main registry.example/qwen/qwen3-8b:v1
      modelctl pack oss://models/qwen3-8b --regions cn-hangzhou,cn-beijing --to qwen/qwen3-8b:v1
      modelctl pack ./Qwen3-8B oci:./store:v1 --layout image,modelpack
      modelctl pack ./Qwen3-8B oci:./store:v1 --exclude '*.md' --dry-run
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.pack import PackOptions
    from modelctl.flows.pack import pack as run

    if bool(reference) == bool(regions):
        raise UsageProblem(
            "nowhere to pack to" if not regions else "both REF and --regions",
            why="expected either",
            hint=f"modelctl pack {source} REGISTRY/REPOSITORY:TAG, or --regions NAME,... --to NAME:TAG",
        )
    if bool(to) != bool(regions):
        raise UsageProblem("--to and --regions", why="one needs the other", hint="--regions NAME,... --to NAME:TAG")
    if not regions and (concurrency or bandwidth or tag_when != "each"):
        raise UsageProblem("--concurrency, --bandwidth and --tag-when", why="they go with --regions")
    options = PackOptions(
        layouts=layout.split(","),
        include=include,
        exclude=exclude,
        annotations=dict(_annotation(text) for text in annotation),
        allow_pickle=allow_pickle,
        crc32_file=crc32_file,
        max_layers=max_layers,
        jobs=jobs,
        dry_run=dry_run,
        if_exists=if_exists,
        memory=memory << 20,
        cache=cache,
        provenance=provenance,
        access=access,
        source=at(source_access, access),
    )
    if regions:
        into = {"concurrency": concurrency or CONCURRENCY, "rate": rate_of(bandwidth), "tag_when": tag_when}
        _to_regions(source, to, regions, options, outcome, output=output, quiet=quiet, **into)
        return
    with report.progress("pack", quiet=quiet) as progress:
        packed = run(source, parse_reference(reference), options, progress)
    outcome.packed(packed)
    _tell(packed, quiet=quiet)
    report.print_result(packed, output, _plan_text(packed) if dry_run else _text(packed))


def _to_regions(
    source: str,
    to: str,
    regions: str,
    options: PackOptions,
    outcome: Outcome,
    *,
    output: Output,
    quiet: bool,
    **into: Any,
) -> None:
    """Pack into regions, show how it goes, print the result, and raise what ends the command."""
    from modelctl.cli.region_rows import raise_unless_done, result_lines, watching
    from modelctl.flows.pack_regions import pack_regions
    from modelctl.flows.region_jobs import RegionOptions

    wanted = RegionOptions(
        if_exists=options.if_exists, jobs=options.jobs, dry_run=options.dry_run, access=options.access, **into
    )
    with watching(quiet=quiet) as watcher:
        found, errors = pack_regions(source, to, regions.split(","), watcher, options=options, into=wanted)
    outcome.in_regions(found, [artifact.digest for artifact in found.packed.artifacts])
    _tell(found.packed, quiet=quiet)
    report.print_result(found, output, result_lines(found.regions))
    raise_unless_done(found.regions, errors)


def _tell(packed: PackReport, *, quiet: bool) -> None:
    """Say on stderr what was packed."""
    for text in packed.notes:
        report.note(f"note: {text}", quiet=quiet)
    if packed.left_out:
        report.note(
            f"left out by the layout: {packed.left_out[0]}"
            + (f" and {count(len(packed.left_out) - 1, 'other file')}" if packed.left_out[1:] else ""),
            quiet=quiet,
        )
    if packed.artifacts and not packed.dry_run:
        report.note(
            f"packed {count(packed.files, 'file')}, {human(packed.size)}, "
            f"in {count(len(packed.layers), 'layer')}; {human(packed.new_size)} new"
            + "".join(f"; tag {one.tag} left as it is" for one in packed.artifacts if one.tagged is False),
            quiet=quiet,
        )


def _annotation(text: str) -> tuple[str, str]:
    key, equals, value = text.partition("=")
    if not equals:
        raise UsageProblem(f"--annotation {text}", why="expected KEY=VALUE")
    return key, value


def _text(packed: PackReport) -> str:
    return "".join(f"{artifact.reference}\n" for artifact in packed.artifacts)


def _plan_text(packed: PackReport) -> str:
    new = [layer for layer in packed.layers if layer.new]
    layers = [
        f"{number:4}  {'new ' if layer.new else 'same'}  {layer.kind:<6}  {human(layer.size):>9}  {layer.files[0]}"
        + (f" and {len(layer.files) - 1} more" if layer.files[1:] else "")
        for number, layer in enumerate(packed.layers, 1)
    ]
    places = ", ".join(artifact.reference for artifact in packed.artifacts)
    size = sum(layer.size for layer in packed.layers)
    total = (
        f"{len(new)} of {count(len(packed.layers), 'layer')} changed, {human(packed.new_size)} of "
        f"{human(size)} to send; {count(packed.files, 'file')} would be packed to {places}"
    )
    return "\n".join([*layers, total, ""])
