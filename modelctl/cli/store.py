"""`modelctl digest`, `ls`, `tag`, `rm` and `prune`: what a store holds, by name."""

from __future__ import annotations

from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag, ReferenceArgument
from modelctl.cli.sources import at, reading_sources
from modelctl.cli.text import count, human
from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess

_StoreArgument = Annotated[str, typer.Argument(metavar="STORE", help="A store: oci:PATH or REGISTRY/REPOSITORY.")]


@reaching_registries
def digest(
    reference: ReferenceArgument,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Print the digest of an artifact's manifest.

    \b
    Example:
      modelctl digest oci:./store:v1
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.tags import resolve_digest

    found = resolve_digest(parse_reference(reference), access)
    report.print_result({"digest": found}, output, f"{found}\n")


@reaching_registries
@reading_sources
def ls(
    store: Annotated[
        str,
        typer.Argument(
            metavar="STORE|SOURCE", help="A store: oci:PATH or REGISTRY/REPOSITORY; or a source: a SCHEME:// URL."
        ),
    ],
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    source_access: SourceAccess = DEFAULT_SOURCE_ACCESS,
    access: Access = DEFAULT,
) -> None:
    """List the tags of a store and what they point to, or the files of a source: size, stated checksum, path.

    \b
    Examples:
      modelctl ls oci:./store
      modelctl ls oss://models/qwen3-8b --endpoint oss-cn-hangzhou.aliyuncs.com
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.sources import is_url, list_source
    from modelctl.flows.tags import list_tags

    if is_url(store):
        entries = list_source(store, at(source_access, access))
        lines = [f"{entry.size}  {entry.stated or '-'}  {entry.path}\n" for entry in entries]
        report.print_result(entries, output, "".join(lines))
        return
    tags = list_tags(parse_reference(store), access)
    report.print_result(tags, output, "".join(f"{tag.tag}  {tag.digest}\n" for tag in tags))


@reaching_registries
def tag(
    reference: ReferenceArgument,
    name: Annotated[str, typer.Argument(metavar="TAG", help="The tag to add, or to move here.")],
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Give an artifact one more tag; a tag of that name moves.

    \b
    Example:
      modelctl tag oci:./store:v1 stable
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.tags import add_tag

    parsed = parse_reference(reference)
    added = add_tag(parsed, name, access)
    report.print_result(added, output, f"{parsed.store}:{added.tag}@{added.digest}\n")


@reaching_registries
def rm(
    reference: ReferenceArgument,
    with_manifest: Annotated[
        bool, typer.Option("--digest", help="Remove the manifest that the tag names, and every tag of it.")
    ] = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Forget a tag, or with @digest alone or --digest a manifest and all its tags.

    Of TAG@DIGEST the tag is forgotten, if it points there. In a layout, `prune` then frees the space; a registry
    collects its own garbage.

    \b
    Example:
      modelctl rm oci:./store:v1
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.tags import remove

    removed = remove(parse_reference(reference), with_manifest=with_manifest, access=access)
    if removed.removed:
        report.note(f"removed {count(len(removed.removed), 'tag')}: {', '.join(removed.removed)}", quiet=quiet)
    for text in removed.notes:
        report.note(f"note: {text}", quiet=quiet)
    if removed.remaining:
        report.note(f"{removed.digest} is still named by {', '.join(removed.remaining)}", quiet=quiet)
    report.print_result(removed, output, f"{removed.digest}\n")


def prune(
    store: _StoreArgument,
    dry_run: Annotated[bool, typer.Option("--dry-run", help="Say what would be removed, and remove nothing.")] = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
) -> None:
    """Remove the blobs that no tag needs, and what interrupted runs left. Refused while somebody packs.

    \b
    Example:
      modelctl prune oci:./store --dry-run
    """
    from modelctl.core.reference import parse_reference
    from modelctl.flows.tags import prune as run

    pruned = run(parse_reference(store), dry_run=dry_run)
    verb = "would be removed" if dry_run else "removed"
    report.note(f"{count(len(pruned.blobs), 'blob')}, {human(pruned.size)}, {verb}", quiet=quiet)
    report.print_result(pruned, output, "".join(f"{blob}\n" for blob in pruned.blobs))
