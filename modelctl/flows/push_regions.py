"""Push an artifact to the registries of many regions, side by side, each blob read once for all."""

from __future__ import annotations

from collections.abc import Sequence

from modelctl.core.config import load_config
from modelctl.core.errors import ModelctlError
from modelctl.core.reference import Reference
from modelctl.flows.delivery import read_package
from modelctl.flows.region_jobs import Job, RegionOptions, tag_in_regions
from modelctl.flows.region_report import RegionsReport, Watcher
from modelctl.flows.regions import chosen_regions


def push_regions(
    source: Reference, to: str, names: Sequence[str], options: RegionOptions, watcher: Watcher
) -> tuple[RegionsReport, dict[str, ModelctlError]]:
    """Copy the artifact `source` to regions; one that fails, or is slow, delays no other.

    Args:
        source: A layout's, or a registry's.
        to: The name in every region, without registry and namespace; empty for that of a source in a registry.
        names: Of the regions, or `ALL`.
        options: The flags.
        watcher: Told of each region.

    Returns:
        The report, and what ended each region that failed.

    Raises:
        UsageProblem: No such region, or no name there. NotFound, Denied, Unavailable: The source cannot be read.
    """
    config = load_config()
    chosen = chosen_regions(names, config)
    wanted = to or source
    tag = tag_in_regions(wanted, config)
    package = read_package(source, options.access, options.attached)
    job = Job(package.store, options, watcher, len(chosen))
    regions = job.regions(wanted, tag, chosen, config, size=package.size)
    report = RegionsReport(
        source=str(source),
        digest=package.root.digest,
        size=package.size,
        dry_run=options.dry_run,
        regions=[region.row for region in regions],
    )
    job.run(regions, package)
    report.read, report.read_elsewhere = job.origins.read, job.origins.read_elsewhere
    return report, {region.row.region: region.error for region in regions if region.error}
