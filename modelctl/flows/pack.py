"""Pack a model: list it, check it, then seal its layers side by side into a store, and tag it last."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import IfExists
from modelctl.core.errors import Conflict, ModelctlError, UsageProblem
from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.paths import matches, selected
from modelctl.core.progress import Progress
from modelctl.core.protocols import BytesBlob, Source, Store
from modelctl.core.reference import LATEST, Reference, check_tag
from modelctl.core.types import Descriptor, Entry, digest_of
from modelctl.flows.crc32 import read_crc32_list
from modelctl.flows.if_exists import may_tag
from modelctl.flows.stores import open_store, writing
from modelctl.flows.workers import Workers
from modelctl.packing.artifact import load_artifact
from modelctl.packing.crc32_list import CRC32_LIST
from modelctl.packing.form import Member
from modelctl.packing.layout import Layout, load_layout
from modelctl.packing.manifest import check_annotations, render_config, render_manifest
from modelctl.packing.plan import MAX_LAYERS, PlannedLayer, plan_layers
from modelctl.packing.planned import PlannedBlob
from modelctl.packing.preflight import check_listed, check_model, own_crc32s
from modelctl.packing.seal import SealedLayer, seal
from modelctl.packing.table import Table, render_table
from modelctl.registry.ocidir import OciDir
from modelctl.registry.twin import upload_beside
from modelctl.sources import open_source
from modelctl.sources.file import FileSource


@dataclass(frozen=True, kw_only=True)
class PackOptions:
    """What the user may choose; the names are those of the flags."""

    layouts: Sequence[str] = ("image",)
    include: Sequence[str] = ()
    exclude: Sequence[str] = ()
    annotations: Mapping[str, str] = field(default_factory=dict)
    allow_pickle: bool = False
    crc32_file: str = ""
    max_layers: int = MAX_LAYERS
    jobs: int | None = None
    dry_run: bool = False
    if_exists: IfExists = "replace"
    access: Access = DEFAULT


class PackedLayer(msgspec.Struct, kw_only=True):
    """One layer of the report. `digest` is empty in a dry run; `new` says that the store did not have it."""

    kind: str
    files: list[str]
    size: int
    digest: str = ""
    new: bool = True


class PackedArtifact(msgspec.Struct, kw_only=True):
    layout: str
    reference: str
    digest: str = ""
    tag: str = ""


class PackReport(msgspec.Struct, kw_only=True):
    """What was packed. `size` counts the files' bytes, `new_size` the bytes of layers that the store had not."""

    artifacts: list[PackedArtifact]
    layers: list[PackedLayer]
    files: int
    size: int
    new_size: int
    left_out: list[str]
    dry_run: bool


def pack(url: str, reference: Reference, options: PackOptions, progress: Progress) -> PackReport:
    """Pack the model at `url` under `reference`.

    Returns:
        A report; in a dry run of what would be packed, with nothing read but headers and nothing written.

    Raises:
        UsageProblem, Invalid, NotFound: The input is refused; nothing was written.
        ChecksumMismatch: A file changed or is not what crc32.txt says; no manifest was written.
        DiskProblem, Denied: No tag was written. The same command goes on.
    """
    if reference.digest:
        raise UsageProblem(f"cannot pack to {reference}", why="a digest follows from the content", hint="name a tag")
    check_annotations(options.annotations)
    layouts = _load_layouts(options.layouts)
    source = open_source(url)
    _check_apart(source, reference)
    wanted = _wanted(layouts[0], options)
    entries, left_out = _list(source, layouts[0], wanted)
    check_model(source, entries, allow_pickle=options.allow_pickle)
    stated = _stated_crc32s(url, source, entries, options.crc32_file, wanted)
    plan = _plan(entries, layouts, options.max_layers)
    tag = reference.tag or LATEST
    tags = [tag, *(check_tag(f"{tag}-{layout.name}") for layout in layouts[1:])]
    if options.dry_run:
        return _dry_report(plan, layouts, reference, tags, left_out)

    store = open_store(reference, options.access)
    with writing(store):
        workers = Workers(options.jobs, progress, remote=bool(reference.registry))
        workers.expect(len(entries), sum(entry.size for entry in entries))

        twins = _twins(store)

        def seal_one(layer: PlannedLayer) -> SealedLayer:
            with workers.part(layer.title, sum(entry.size for entry in layer.entries)) as advance:
                blob = PlannedBlob(layer, source)
                with upload_beside(store, blob, layer.identity, twins.get(_shape(layer))) as upload:
                    return seal(layer, source, upload, stated, advance)

        sealed = workers.run(seal_one, plan)
        roots = _publish(store, layouts, sealed, options.annotations)
        for root, name in zip(roots, tags, strict=True):
            if may_tag(store, name, root, options.if_exists):
                store.tag(root, name)
    return PackReport(
        artifacts=[
            PackedArtifact(
                layout=layout.name, reference=f"{reference.store}@{root.digest}", digest=root.digest, tag=name
            )
            for layout, root, name in zip(layouts, roots, tags, strict=True)
        ],
        layers=[_layer_report(layer.plan, layer.digest, new=layer.new) for layer in sealed],
        files=len(entries),
        size=sum(entry.size for entry in entries),
        new_size=sum(layer.size for layer in sealed if layer.new),
        left_out=left_out,
        dry_run=False,
    )


def _load_layouts(names: Sequence[str]) -> list[Layout]:
    layouts = [load_layout(name) for name in names]
    if not layouts or len({layout.name for layout in layouts}) != len(layouts):
        raise UsageProblem(f"--layout {','.join(names)}", why="name at least one layout, and each once")
    return layouts


def _check_apart(source: Source, reference: Reference) -> None:
    """Refuse a store inside the folder that is packed: it would become part of the model."""
    store = Path(reference.path).resolve()
    if isinstance(source, FileSource) and not reference.registry and store.is_relative_to(source.root):
        raise Conflict(
            f"{reference.store} lies inside {source.root}",
            why="the store would be packed into itself",
            hint="name a folder beside the model",
        )


def _wanted(layout: Layout, options: PackOptions) -> Callable[[str], bool]:
    return lambda path: selected(path, options.include, (*options.exclude, *layout.exclude))


def _list(source: Source, layout: Layout, wanted: Callable[[str], bool]) -> tuple[list[Entry], list[str]]:
    """Return the entries that are wanted, and the paths that the layout leaves out."""
    left_out: list[str] = []

    def noting(path: str) -> bool:
        left_out.extend([path] if matches(path, layout.exclude) else [])
        return wanted(path)

    return list(source.list(noting)), sorted(left_out)


def _stated_crc32s(
    url: str, source: Source, entries: Sequence[Entry], crc32_file: str, wanted: Callable[[str], bool]
) -> dict[str, int]:
    if crc32_file:
        _, stated = read_crc32_list(url.removeprefix("file://"), crc32_file)
    else:
        stated = own_crc32s(source, entries)
    check_listed(stated, entries, crc32_file or CRC32_LIST, wanted)
    return stated


def _plan(entries: Sequence[Entry], layouts: Sequence[Layout], max_layers: int) -> list[PlannedLayer]:
    plan, *others = [plan_layers(entries, layout, max_layers) for layout in layouts]
    for layout, other in zip(layouts[1:], others, strict=True):
        if other != plan:
            raise UsageProblem(
                f"--layout {layouts[0].name},{layout.name}",
                why="these layouts share no blobs, so every file would be read twice",
                hint=f"pack twice, once with --layout {layouts[0].name} and once with --layout {layout.name}",
            )
    return plan


def _shape(layer: PlannedLayer) -> tuple[Member, ...]:
    return tuple(layer.members)


def _twins(store: Store) -> dict[tuple[Member, ...], Descriptor]:
    """Return the layers that the store has, by what a layer is before its files are read: their names and sizes."""
    found: dict[tuple[Member, ...], Descriptor] = {}
    for root in store.tags().values() if isinstance(store, OciDir) else ():
        with suppress(ModelctlError):
            for layer in load_artifact(store, root).layers:
                if not layer.gzipped:
                    found[tuple(layer.members)] = layer.descriptor
    return found


def _publish(
    store: Store, layouts: Sequence[Layout], layers: Sequence[SealedLayer], annotations: Mapping[str, str]
) -> list[Descriptor]:
    """Write table, configs and manifests; return the manifests, the first being the subject of the others."""
    table = render_table(Table(tuple(row for layer in layers for row in layer.rows), layouts[0].prefix))
    diff_ids = [*(layer.digest for layer in layers), digest_of(table)]
    _push(store, table)
    roots: list[Descriptor] = []
    for layout in layouts:
        config = render_config(layout, diff_ids)
        subject = roots[0] if roots else None
        raw = render_manifest(layout, config, layers, table, annotations=annotations, subject=subject)
        _push(store, config)
        roots.append(Descriptor(media_type=OCI_MANIFEST, digest=digest_of(raw), size=len(raw)))
        store.put_manifest(roots[-1], raw)
    return roots


def _push(store: Store, data: bytes) -> None:
    with store.upload(BytesBlob(data)) as upload:
        upload.write(data)
        upload.commit(digest_of(data))


def _layer_report(plan: PlannedLayer, digest: str = "", *, new: bool = True) -> PackedLayer:
    paths = [entry.path for entry in plan.entries]
    return PackedLayer(kind=plan.kind, files=paths, size=plan.size, digest=digest, new=new)


def _dry_report(
    plan: Sequence[PlannedLayer],
    layouts: Sequence[Layout],
    reference: Reference,
    tags: Sequence[str],
    left_out: list[str],
) -> PackReport:
    return PackReport(
        artifacts=[
            PackedArtifact(layout=layout.name, reference=f"{reference.store}:{tag}", tag=tag)
            for layout, tag in zip(layouts, tags, strict=True)
        ],
        layers=[_layer_report(layer) for layer in plan],
        files=sum(len(layer.entries) for layer in plan),
        size=sum(entry.size for layer in plan for entry in layer.entries),
        new_size=sum(layer.size for layer in plan),
        left_out=left_out,
        dry_run=True,
    )
