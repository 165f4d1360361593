"""What is told of an artifact on its way into regions: while it goes, and in the end."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

import msgspec

State = Literal["Waiting", "Sending", "Ready", "Pushed", "Untagged", "Planned", "Failed"]
"""Ready is all there but the tag; Untagged, that another region failed and `--tag-when all` left it so."""


class RegionReport(msgspec.Struct, kw_only=True):
    """How a region is, at any time.

    `sent`, `skipped` and `mounted` are digests of blobs. Of `size` bytes `done` are there; `bytes` went over the wire,
    in whole uploads, those that were sent twice counted twice. In a dry run `sent` and `bytes` are what would be, and
    a layer that has to be read for its digest is called by its files. `code` is of the error that ended it.
    """

    region: str
    reference: str
    tag: str
    size: int
    state: State = "Waiting"
    tagged: bool = False
    sent: list[str] = msgspec.field(default_factory=list)
    skipped: list[str] = msgspec.field(default_factory=list)
    mounted: list[str] = msgspec.field(default_factory=list)
    done: int = 0
    bytes: int = 0
    seconds: float = 0.0
    code: str = ""
    why: str = ""
    hint: str = ""


class RegionsReport(msgspec.Struct, kw_only=True):
    """An artifact in regions. `read` is what was read of a source in a registry, for all of them [bytes].

    `read_elsewhere` was read from regions that had the blobs already, for those that came later.
    """

    source: str
    digest: str
    size: int
    dry_run: bool
    regions: list[RegionReport]
    read: int = 0
    read_elsewhere: int = 0


class Watcher:
    """Is told how it goes; this one tells nobody. Several threads call it, one for each region and more."""

    def planned(self, regions: Sequence[RegionReport]) -> None:
        """These are the regions; nothing was done yet."""

    def changed(self, region: RegionReport) -> None:
        """A region is in another state than before."""

    def moved(self, region: RegionReport) -> None:
        """A region has more bytes."""
