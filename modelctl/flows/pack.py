"""Pack a model: list it, check it, then seal its layers side by side into a store, and tag it last."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess
from modelctl.core.choices import IfExists
from modelctl.core.errors import Conflict, ModelctlError, UsageProblem
from modelctl.core.media_types import OCI_LAYER, OCI_MANIFEST
from modelctl.core.paths import matches, selected
from modelctl.core.progress import Progress
from modelctl.core.protocols import BytesBlob, Source, Store, Upload
from modelctl.core.readahead import PART
from modelctl.core.reference import LATEST, Reference, check_tag
from modelctl.core.types import Descriptor, Digest, Entry, digest_of
from modelctl.flows.attached import attach_provenance
from modelctl.flows.crc32 import own_names, read_crc32_list
from modelctl.flows.if_exists import may_tag
from modelctl.flows.known import Known, read_stored
from modelctl.flows.stores import open_store, writing
from modelctl.flows.workers import JOBS, Workers
from modelctl.packing.artifact import load_artifact
from modelctl.packing.cache import DigestCache, Remembered, open_cache
from modelctl.packing.card import CARD, Card, parse_card
from modelctl.packing.crc32_list import CRC32_LIST
from modelctl.packing.form import Member
from modelctl.packing.layout import Layout, load_layout
from modelctl.packing.manifest import check_annotations, render_config, render_manifest
from modelctl.packing.plan import MAX_LAYERS, PlannedLayer, plan_layers
from modelctl.packing.planned import PlannedBlob
from modelctl.packing.preflight import check_listed, check_names, check_shards, own_crc32s
from modelctl.packing.provenance import Options, Provenance
from modelctl.packing.seal import SealedLayer, check_crc32, seal
from modelctl.packing.table import Table, render_table
from modelctl.registry.ocidir import OciDir
from modelctl.registry.twin import PresentUpload, upload_beside
from modelctl.sources import open_source
from modelctl.sources.file import FileSource

MEMORY = 48 << 20
"""What is read ahead of sources that are not on this machine [bytes]: three connections for each of four layers."""

MAX_CARD_SIZE = 16 << 20
"""Largest README.md whose front matter is looked for [bytes]."""


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
    memory: int = MEMORY
    cache: bool = True
    provenance: bool = True
    access: Access = DEFAULT
    source: SourceAccess = DEFAULT_SOURCE_ACCESS


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
    notes: list[str]
    dry_run: bool


def pack(url: str, reference: Reference, options: PackOptions, progress: Progress) -> PackReport:
    """Pack the model at `url` under `reference`.

    What is known not to have changed, and is in the store, is not read.

    Returns:
        A report; in a dry run of what would be packed, with nothing read but headers and nothing written.

    Raises:
        UsageProblem, Invalid, NotFound: The input is refused; nothing was written.
        ChecksumMismatch: A file changed, or is not what its source or crc32.txt says; no manifest was written.
        DiskProblem, Denied: No tag was written. The same command goes on.
    """
    if reference.digest:
        raise UsageProblem(f"cannot pack to {reference}", why="a digest follows from the content", hint="name a tag")
    check_annotations(options.annotations)
    layouts = _load_layouts(options.layouts)
    source = open_source(url, options.source)
    _check_apart(source, reference)
    wanted = _wanted(layouts[0], options)
    entries, left_out = _list(source, layouts[0], wanted)
    check_names(entries, allow_pickle=options.allow_pickle)
    plan = _plan(entries, layouts, options.max_layers)
    tag = reference.tag or LATEST
    tags = [tag, *(check_tag(f"{tag}-{layout.name}") for layout in layouts[1:])]
    store = open_store(reference, options.access)
    with _cache(options) as cache:
        known = Known(source, store, tag, cache)
        present = known.present(plan)
        fresh = {entry.path for layer in plan if layer not in present for entry in layer.entries}
        check_shards(source, entries, fresh, known.read)
        stated = _stated_crc32s(known, entries, options.crc32_file, wanted)
        if options.dry_run:
            artifacts = [
                PackedArtifact(layout=layout.name, reference=f"{reference.store}:{name}", tag=name)
                for layout, name in zip(layouts, tags, strict=True)
            ]
            layers = [_layer_report(layer, new=layer not in present and not _is_stated(store, layer)) for layer in plan]
            return _report(artifacts, layers, entries, left_out, dry_run=True)
        with writing(store):
            workers = Workers(_jobs(source, options), progress, remote=bool(reference.registry))
            workers.expect(len(entries), sum(entry.size for entry in entries))
            sealed = _seal(plan, known, stated, workers, options.memory)
            card = _card(store, sealed)
            roots = _publish(store, layouts, sealed, {**card.annotations, **options.annotations})
            if options.provenance:
                for root in roots:
                    attach_provenance(store, root, _provenance(source, options, sealed))
            for root, name in zip(roots, tags, strict=True):
                if may_tag(store, name, root, options.if_exists):
                    store.tag(root, name)
        notes = [note for note in (card.note, cache.problem if cache else "") if note]
    artifacts = [
        PackedArtifact(layout=layout.name, reference=f"{reference.store}@{root.digest}", digest=root.digest, tag=name)
        for layout, root, name in zip(layouts, roots, tags, strict=True)
    ]
    layers = [_layer_report(layer.plan, layer.digest, new=layer.new) for layer in sealed]
    return _report(artifacts, layers, entries, left_out, notes=notes)


def _cache(options: PackOptions) -> AbstractContextManager[DigestCache | None]:
    return open_cache() if options.cache else nullcontext()


def _jobs(source: Source, options: PackOptions) -> int | None:
    """Return how many layers to seal at once: each needs memory for a part that is read ahead, but of local files."""
    if isinstance(source, FileSource):
        return options.jobs
    return min(options.jobs or JOBS, max(1, options.memory // PART))


def _seal(
    plan: Sequence[PlannedLayer], known: Known, stated: Mapping[str, int], workers: Workers, memory: int
) -> Sequence[SealedLayer]:
    """Seal the layers side by side, but for those that are known and in the store."""
    source, store = known.source, known.store
    present, twins = known.present(plan), _twins(store)
    connections = max(1, memory // workers.jobs // PART)

    def seal_one(layer: PlannedLayer) -> SealedLayer:
        with workers.part(layer.title, sum(entry.size for entry in layer.entries)) as advance:
            taken = _taken(layer, present[layer], source, stated, advance) if layer in present else None
            if taken:
                return taken
            begun = time.time()
            with _upload(store, layer, source, twins) as upload:
                sealed = seal(layer, source, upload, stated, advance, connections=connections)
            known.keep(sealed, begun)
            return sealed

    return workers.run(seal_one, plan)


def _taken(
    layer: PlannedLayer,
    remembered: Remembered,
    source: Source,
    stated: Mapping[str, int],
    advance: Callable[[int], None],
) -> SealedLayer | None:
    """Return a layer that the store has as if it had been sealed; its source says once more that it is the same.

    None when the source states another CRC-64 than its files have.
    """
    entries = tuple(source.check(entry) for entry in layer.entries)
    for entry, row in zip(entries, remembered.rows, strict=True):
        if entry.crc64 not in (None, row.crc64):
            return None
        check_crc32(row.path, row.crc32, stated)
    advance(sum(row.size for row in remembered.rows))
    return SealedLayer(layer, remembered.digest, remembered.size, remembered.rows, new=False, entries=entries)


@contextmanager
def _upload(
    store: Store, layer: PlannedLayer, source: Source, twins: Mapping[tuple[Member, ...], Descriptor]
) -> Iterator[Upload]:
    """Start to write a layer. One whose digest its source states, and that the store has, is read and not written."""
    twin = twins.get(_shape(layer))
    if not twin and _is_stated(store, layer):
        yield PresentUpload()
        return
    with upload_beside(store, PlannedBlob(layer, source), layer.identity, twin) as upload:
        yield upload


def _is_stated(store: Store, layer: PlannedLayer) -> bool:
    """Say whether the store has a layer by the digest that its source states."""
    entry = layer.entries[0]
    digest = Digest(f"sha256:{entry.sha256}")
    found = layer.form == "raw" and entry.sha256
    return bool(found) and store.has(Descriptor(media_type=OCI_LAYER, digest=digest, size=entry.size))


def _card(store: Store, layers: Sequence[SealedLayer]) -> Card:
    """Read what the model card says of the model, from the store, so that its source sends it once at most.

    One that is too large to be one says nothing.
    """
    for layer in layers:
        if any(row.path == CARD and row.size <= MAX_CARD_SIZE for row in layer.rows):
            return parse_card(read_stored(store, layer, CARD))
    return Card({})


def _provenance(source: Source, options: PackOptions, layers: Sequence[SealedLayer]) -> Provenance:
    return Provenance(
        origin=source.origin,
        options=Options(
            layouts=tuple(options.layouts),
            include=tuple(options.include),
            exclude=tuple(options.exclude),
            max_layers=options.max_layers,
            annotations=options.annotations,
        ),
        files=tuple(entry for layer in layers for entry in layer.entries),
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
    known: Known, entries: Sequence[Entry], crc32_file: str, wanted: Callable[[str], bool]
) -> Mapping[str, int]:
    """Return what the list `crc32_file` of this machine states, or else the model's own."""
    if crc32_file:
        root = known.source.root if isinstance(known.source, FileSource) else None
        own = own_names(str(root), crc32_file) if root else {CRC32_LIST}
        stated = read_crc32_list(crc32_file, own)
    else:
        stated = own_crc32s(entries, known.read)
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


def _report(
    artifacts: list[PackedArtifact],
    layers: list[PackedLayer],
    entries: Sequence[Entry],
    left_out: list[str],
    *,
    notes: Sequence[str] = (),
    dry_run: bool = False,
) -> PackReport:
    return PackReport(
        artifacts=artifacts,
        layers=layers,
        files=len(entries),
        size=sum(entry.size for entry in entries),
        new_size=sum(layer.size for layer in layers if layer.new),
        left_out=left_out,
        notes=list(notes),
        dry_run=dry_run,
    )
