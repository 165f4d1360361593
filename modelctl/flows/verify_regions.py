"""Prove an artifact in the registries of many regions side by side, and mend one from another.

Each region is verified by itself, so that none waits for another. What has to be compared, or sent, comes after.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial

import msgspec

from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import Depth
from modelctl.core.config import load_config
from modelctl.core.errors import ModelctlError
from modelctl.core.progress import Progress
from modelctl.core.reference import Reference
from modelctl.flows.good_copies import GoodCopies, Holder
from modelctl.flows.regions import chosen_regions, name_in_regions, open_in_region, place
from modelctl.flows.stores import open_artifact
from modelctl.flows.verify_region import RegionProof, RegionVerdict
from modelctl.flows.workers import Workers, side_by_side


@dataclass(frozen=True, kw_only=True)
class VerifyOptions:
    """What the user may choose; the names are those of the flags. `origin` is `--from`: it has good copies too."""

    depth: Depth = "full"
    repair: bool = False
    origin: Reference | None = None
    jobs: int | None = None
    concurrency: int = 16
    access: Access = DEFAULT


class RegionsVerdict(msgspec.Struct, kw_only=True):
    """An artifact in regions. `digest` is what its tag should point to; empty where that cannot be said."""

    artifact: str
    digest: str
    depth: Depth
    repair: bool
    regions: list[RegionVerdict]


def verify_regions(
    wanted: Reference | str,
    names: Sequence[str],
    options: VerifyOptions,
    progress: Progress,
    tell: Callable[[RegionVerdict], None],
) -> tuple[RegionsVerdict, dict[str, ModelctlError]]:
    """Prove an artifact in regions, and where it is not right send it again from where it is, if that is wanted.

    A tag that is there is never moved: which of two versions is right the bytes do not say.

    Args:
        wanted: The name in every region, or a reference in the registry of one.
        names: Of the regions, or `ALL`.
        options: The flags.
        progress: Shows all regions together.
        tell: Called with each region whose state is another than before.

    Returns:
        The verdict, and what is wrong in the end with each region that is not right.

    Raises:
        UsageProblem: No such region, or no name there. ModelctlError: What `--from` names cannot be read.
    """
    config = load_config()
    name_in_regions(wanted, config)
    shown = _Shown(progress)
    rows = [RegionVerdict(region=name, reference="") for name in chosen_regions(names, config)]
    regions, errors = list[RegionProof](), dict[str, ModelctlError]()
    for row in rows:
        name = row.region
        try:
            reference, access = place(wanted, name, config, options.access)
        except ModelctlError as error:
            row.state, errors[name] = "Failed", error
            row.say(error)
            tell(row)
            continue
        row.reference = str(reference)
        store, jobs = open_in_region(reference, access, config.region(name), options.jobs)
        workers = Workers(jobs, shown.part(name), remote=True)
        regions.append(RegionProof(row, reference, access, store, workers, options.depth, tell))
    given = _given(options)
    with side_by_side([region.workers for region in regions], options.concurrency) as do:
        do([region.verify for region in regions])
        named = given.artifact.root.digest if given else next((one.reference.digest for one in regions), "")
        digest = str(named or "") or _of_most(regions)
        copies = GoodCopies([one for one in (given, *(region.holder for region in regions)) if one])
        lacking = [region for region in regions if region.row.state in ("Bad", "Missing")]
        do([partial(region.go_on, digest, copies, repair=options.repair) for region in lacking])
    for region in regions:
        region.judge(digest, str(wanted), repair=options.repair)
    verdict = RegionsVerdict(
        artifact=str(wanted),
        digest=digest,
        depth=options.depth,
        repair=options.repair,
        regions=rows,
    )
    return verdict, errors | {region.row.region: region.error for region in regions if region.error}


def _given(options: VerifyOptions) -> Holder | None:
    """Return what `--from` names."""
    if not options.origin:
        return None
    store, artifact = open_artifact(options.origin, options.access)
    return Holder(str(options.origin), options.origin, options.access, store, artifact)


def _of_most(regions: Sequence[RegionProof]) -> str:
    """Return the digest that the tag points to in most regions; nothing when two have as many."""
    found = Counter(region.row.digest for region in regions if region.row.digest).most_common(2)
    tie = len(found) == 2 and found[0][1] == found[1][1]
    return found[0][0] if found and not tie else ""


class _Shown:
    """Shows several regions as one job."""

    def __init__(self, progress: Progress) -> None:
        self.progress = progress
        self._expected: dict[str, tuple[int, int]] = {}
        self._lock = threading.Lock()

    def part(self, name: str) -> Progress:
        """Return the progress of the region `name`."""
        return _Part(name, self)

    def expect(self, name: str, files: int, size: int) -> None:
        with self._lock:
            self._expected[name] = files, size
            files, size = (sum(numbers) for numbers in zip(*self._expected.values(), strict=True))
            self.progress.expect(files, size)


class _Part(Progress):
    """What one region's workers tell."""

    def __init__(self, region: str, shown: _Shown) -> None:
        self._region, self._shown = region, shown

    def expect(self, files: int, size: int) -> None:
        self._shown.expect(self._region, files, size)

    def begin(self, name: str, size: int) -> None:
        self._shown.progress.begin(f"{self._region}: {name}", size)

    def advance(self, name: str, size: int) -> None:
        self._shown.progress.advance(f"{self._region}: {name}", size)

    def end(self, name: str) -> None:
        self._shown.progress.end(f"{self._region}: {name}")
