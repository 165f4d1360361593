"""Pack a model: list it, check it, then seal its layers side by side into a store, and tag it last."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext
from dataclasses import dataclass, field
from pathlib import Path

import msgspec

from modelctl.core.access import DEFAULT, DEFAULT_SOURCE_ACCESS, Access, SourceAccess
from modelctl.core.choices import IfExists
from modelctl.core.errors import Conflict, UsageProblem
from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.paths import matches, selected
from modelctl.core.progress import Progress
from modelctl.core.protocols import BytesBlob, Source, Store
from modelctl.core.readahead import PART
from modelctl.core.reference import LATEST, Reference, check_tag
from modelctl.core.types import Descriptor, Entry, digest_of
from modelctl.flows.attached import attach_provenance
from modelctl.flows.crc32 import own_names, read_crc32_list
from modelctl.flows.if_exists import may_tag
from modelctl.flows.known import Known, read_stored
from modelctl.flows.sealing import seal_layers, stated_blob
from modelctl.flows.stores import open_store, writing
from modelctl.flows.workers import JOBS, Workers
from modelctl.packing.cache import open_cache
from modelctl.packing.card import CARD, Card, parse_card
from modelctl.packing.crc32_list import CRC32_LIST
from modelctl.packing.layout import Layout, load_layout
from modelctl.packing.manifest import check_annotations, render_config, render_manifest
from modelctl.packing.plan import MAX_LAYERS, PlannedLayer, plan_layers
from modelctl.packing.preflight import check_listed, check_names, check_shards, own_crc32s
from modelctl.packing.provenance import Options, Provenance
from modelctl.packing.seal import SealedLayer
from modelctl.packing.table import Table, render_table
from modelctl.sources import open_source
from modelctl.sources.file import FileSource

MEMORY = 80 << 20
"""What is read ahead of sources that are not on this machine [bytes]: four connections for each of four layers."""

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
    """One manifest of the report. `tagged` is None where nothing is tagged, or each region says it."""

    layout: str
    reference: str
    digest: str = ""
    tag: str = ""
    tagged: bool | None = None


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


@dataclass(frozen=True)
class Model:
    """A model at its source: the files that are wanted, by name in order, and the layers that they go into.

    `left_out` are the paths that the layout leaves out.
    """

    source: Source
    options: PackOptions
    layouts: Sequence[Layout]
    wanted: Callable[[str], bool]
    entries: Sequence[Entry]
    left_out: Sequence[str]
    plan: Sequence[PlannedLayer]

    def tags(self, tag: str) -> list[str]:
        """Return a tag for each layout; `UsageProblem` when one is too long."""
        return [tag, *(check_tag(f"{tag}-{layout.name}") for layout in self.layouts[1:])]

    def workers(self, progress: Progress, *, remote: bool) -> Workers:
        """Return who seals the layers: each needs memory for a part that is read ahead, but of local files."""
        jobs = self.options.jobs
        if not isinstance(self.source, FileSource):
            jobs = min(jobs or JOBS, max(1, self.options.memory // PART))
        workers = Workers(jobs, progress, remote=remote)
        workers.expect(len(self.entries), sum(entry.size for entry in self.entries))
        return workers


@dataclass(frozen=True)
class Written:
    """What was written of a model but for its tags: its layers, a manifest for each layout, and what to tell of it."""

    layers: Sequence[SealedLayer]
    roots: Sequence[Descriptor]
    notes: Sequence[str]


def pack(url: str, reference: Reference, options: PackOptions, progress: Progress) -> PackReport:
    """Pack the model at `url` under `reference`.

    What is known not to have changed, and is in the store, is not read.

    Returns:
        A report; in a dry run of what would be packed, with nothing read but headers and nothing written.

    Raises:
        UsageProblem, Invalid, NotFound: The input is refused; nothing was written.
        ChecksumMismatch: A file changed, or is not what its source or crc32.txt says; no manifest was written.
        Conflict: A tag points elsewhere, and `if_exists` is "fail". No tag was written.
        DiskProblem, Denied: No tag was written. The same command goes on.
    """
    if reference.digest:
        raise UsageProblem(f"cannot pack to {reference}", why="a digest follows from the content", hint="name a tag")
    source = open_source(url, options.source)
    _check_apart(source, reference)
    model = list_model(source, options)
    tags = model.tags(reference.tag or LATEST)
    store = open_store(reference, options.access)
    with open_known(model, store, tags[0]) as known:
        stated = check_model(model, known)
        if options.dry_run:
            return plan_report(model, known, f"{reference.store}:", tags)
        with writing(store):
            workers = model.workers(progress, remote=bool(reference.registry))
            written = write_model(model, known, stated, workers)
            targets = dict(zip(tags, written.roots, strict=True))
            wanted = {name: root for name, root in targets.items() if may_tag(store, name, root, options.if_exists)}
            for name, root in wanted.items():
                store.tag(root, name)
    report = written_report(model, written, reference.store, tags)
    for artifact in report.artifacts:
        artifact.tagged = artifact.tag in wanted
    return report


def list_model(source: Source, options: PackOptions) -> Model:
    """List a model and plan its layers.

    Raises:
        UsageProblem, Invalid, NotFound: It cannot be packed, or not so.
    """
    check_annotations(options.annotations)
    layouts = _load_layouts(options.layouts)
    wanted = _wanted(layouts[0], options)
    entries, left_out = _list(source, layouts[0], wanted)
    check_names(entries, allow_pickle=options.allow_pickle)
    return Model(source, options, layouts, wanted, entries, left_out, _plan(entries, layouts, options.max_layers))


@contextmanager
def open_known(model: Model, store: Store, tag: str) -> Iterator[Known]:
    """Open what is known of a model's layers, for a store and a tag, until the `with` ends."""
    with open_cache() if model.options.cache else nullcontext() as cache:
        yield Known(model.source, store, tag, cache)


def check_model(model: Model, known: Known) -> Mapping[str, int]:
    """Check what can be checked before a layer is read; return the CRC-32 by path that somebody stated.

    Raises:
        Invalid: A shard is none, or an index names what is not there. ChecksumMismatch: A list says otherwise.
    """
    present = known.present(model.plan)
    fresh = {entry.path for layer in model.plan if layer not in present for entry in layer.entries}
    check_shards(model.source, model.entries, fresh, known.read)
    return _stated_crc32s(known, model.entries, model.options.crc32_file, model.wanted)


def write_model(model: Model, known: Known, stated: Mapping[str, int], workers: Workers) -> Written:
    """Write layers, documents, manifests and provenance to the store; all but the tags.

    Raises:
        ChecksumMismatch: A file changed, or is not what its source or a list says; no manifest was written.
    """
    options, store = model.options, known.store
    sealed = seal_layers(model.plan, known, stated, workers, options.memory)
    card = _card(store, sealed)
    roots = _publish(store, model.layouts, sealed, {**card.annotations, **options.annotations})
    if options.provenance:
        for root in roots:
            attach_provenance(store, root, _provenance(model.source, options, sealed))
    return Written(sealed, roots, [note for note in (card.note, known.problem) if note])


def plan_report(model: Model, known: Known, place: str, tags: Sequence[str]) -> PackReport:
    """Return the report of a dry run, for a `place` that tags are put after."""
    present = known.present(model.plan)
    artifacts = [
        PackedArtifact(layout=layout.name, reference=f"{place}{name}", tag=name)
        for layout, name in zip(model.layouts, tags, strict=True)
    ]
    blobs = {layer: None if layer in present else stated_blob(layer) for layer in model.plan}
    there = {layer for layer, blob in blobs.items() if layer in present or (blob and known.store.has(blob))}
    layers = [_layer_report(layer, new=layer not in there) for layer in model.plan]
    return _report(artifacts, layers, model, dry_run=True)


def written_report(model: Model, written: Written, place: str, tags: Sequence[str]) -> PackReport:
    """Return the report of what was packed, to a `place` that digests are put after."""
    artifacts = [
        PackedArtifact(layout=layout.name, reference=f"{place}@{root.digest}", digest=root.digest, tag=name)
        for layout, root, name in zip(model.layouts, written.roots, tags, strict=True)
    ]
    layers = [_layer_report(layer.plan, layer.digest, new=layer.new) for layer in written.layers]
    return _report(artifacts, layers, model, notes=written.notes)


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
    model: Model,
    *,
    notes: Sequence[str] = (),
    dry_run: bool = False,
) -> PackReport:
    return PackReport(
        artifacts=artifacts,
        layers=layers,
        files=len(model.entries),
        size=sum(entry.size for entry in model.entries),
        new_size=sum(layer.size for layer in layers if layer.new),
        left_out=list(model.left_out),
        notes=list(notes),
        dry_run=dry_run,
    )
