"""Pack a model into the registries of many regions at once: its source is read once for all of them."""

from __future__ import annotations

from collections.abc import Sequence
from functools import partial
from typing import cast

from modelctl.core.config import load_config
from modelctl.core.errors import ModelctlError
from modelctl.core.media_types import OCI_LAYER
from modelctl.core.progress import Progress
from modelctl.core.types import Descriptor
from modelctl.flows.attached import blobs_of
from modelctl.flows.delivery import Package
from modelctl.flows.known import Known
from modelctl.flows.pack import (
    Model,
    PackOptions,
    PackReport,
    Written,
    check_model,
    list_model,
    open_known,
    plan_report,
    write_model,
    written_report,
)
from modelctl.flows.region_jobs import Job, Part, RegionJob, RegionOptions, tag_in_regions
from modelctl.flows.region_report import RegionsReport, Watcher
from modelctl.flows.regions import chosen_regions, name_in_regions
from modelctl.flows.sealing import stated_blob
from modelctl.packing.artifact import parse_manifest
from modelctl.registry.fanout import FanOut
from modelctl.registry.feed import Crew, Member, NoneLeft
from modelctl.registry.remote import RemoteStore
from modelctl.sources import open_source


class PackedRegionsReport(RegionsReport, kw_only=True):
    """A model in regions, and what was `packed`; `read` is what was read of its files [bytes].

    Where no region was left while layers went there, nothing was packed, and there is no digest.
    """

    packed: PackReport


def pack_regions(
    url: str, to: str, names: Sequence[str], watcher: Watcher, *, options: PackOptions, into: RegionOptions
) -> tuple[PackedRegionsReport, dict[str, ModelctlError]]:
    """Pack the model at `url` into regions; one that fails, or is slow, delays no other.

    Each layer goes to all regions as it is read. What a region misses then it gets from one that has it, and after
    that documents, manifests, what is attached, and last the tag. What is known not to have changed, and is in one
    region, is not read.

    Args:
        url: Of the source.
        to: The name in every region, without registry and namespace.
        names: Of the regions, or `ALL`.
        watcher: Told of each region.
        options: The flags of `pack`.
        into: Those of `push --regions`.

    Returns:
        The report, and what ended each region that failed.

    Raises:
        UsageProblem: No such region, or no name there. ModelctlError: As `pack`; nothing was tagged.
    """
    config = load_config()
    chosen = chosen_regions(names, config)
    tag, name = tag_in_regions(to, config), name_in_regions(to, config).path
    model = list_model(open_source(url, options.source), options)
    tags = model.tags(tag)
    workers = model.workers(Progress(), remote=True)
    crew = Crew(into.concurrency, workers.jobs)
    store = FanOut(crew)
    job = Job(store, into, watcher, len(chosen))
    regions = job.regions(to, tag, chosen, config, size=sum(layer.size for layer in model.plan))
    members = {region: _member(region, crew) for region in regions if not region.error}
    crew.members += members.values()
    with open_known(model, store, tag) as known:
        try:
            if into.dry_run:
                check_model(model, known)
                packed = plan_report(model, known, f"{name}:", tags)
                job.look(regions, _parts(model, known))
            else:
                with crew.at_work():
                    written = write_model(model, known, check_model(model, known), workers)
                job.run(regions, _package(store, written, tags))
                packed = written_report(model, written, name, tags)
        except NoneLeft:
            packed = _nothing(model, into)
            for region, member in members.items():
                region.give_up(member.error) if member.error else None
    report = PackedRegionsReport(
        source=model.source.origin.url,
        digest=packed.artifacts[0].digest if packed.artifacts else "",
        size=max(region.row.size for region in regions),
        dry_run=into.dry_run,
        regions=[region.row for region in regions],
        read=known.source_read,
        read_elsewhere=store.read + job.origins.read_elsewhere,
        packed=packed,
    )
    return report, {region.row.region: region.error for region in regions if region.error}


def _member(region: RegionJob, crew: Crew) -> Member:
    member = Member(
        name=region.row.region,
        store=cast(RemoteStore, region.store),
        slots=region.jobs,
        copied=region.copied,
        advance=partial(region.progress.advance, ""),
        catch_up=region.catch_up,
        stop=region.workers.stop,
        begin=region.begin,
    )
    region.before = partial(crew.join, member)
    return member


def _nothing(model: Model, into: RegionOptions) -> PackReport:
    """Return the report of a model of which nothing was packed."""
    return PackReport(
        artifacts=[],
        layers=[],
        files=0,
        size=0,
        new_size=0,
        left_out=list(model.left_out),
        notes=[],
        dry_run=into.dry_run,
    )


def _parts(model: Model, known: Known) -> list[Part]:
    """Return the layers as far as they are known."""
    present = known.present(model.plan)
    blobs = {
        layer: Descriptor(media_type=OCI_LAYER, digest=present[layer].digest, size=layer.size)
        if layer in present
        else stated_blob(layer)
        for layer in model.plan
    }
    return [Part(blob.digest if blob else layer.title, layer.size, blob) for layer, blob in blobs.items()]


def _package(store: FanOut, written: Written, tags: Sequence[str]) -> Package:
    """Return all that regions are to have."""
    root, *others = written.roots
    attached = [(manifest, raw) for manifest, raw in store.manifests.values() if manifest.digest != root.digest]
    raw = store.manifests[root.digest][1]
    return Package(
        store,
        root,
        raw,
        attached,
        blobs_of(map(parse_manifest, [raw, *(raw for _, raw in attached)])),
        names={layer.digest: layer.plan.identity for layer in written.layers},
        tags=dict(zip(tags[1:], others, strict=True)),
    )
