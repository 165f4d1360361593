"""Which file goes into which layer, in which order. Pure: names and sizes in, a plan out.

Weights first and small files last, since a mounted layer stands on those before it: a changed README then leaves
every weight layer, and its page cache on the nodes, as it was.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import get_args

from modelctl.core.errors import UsageProblem
from modelctl.core.types import Entry, Form, Kind
from modelctl.packing.form import Member, blob_size
from modelctl.packing.layout import Layout
from modelctl.packing.shards import SUFFIX

ALONE_FROM = 16 << 20
"""A file of this size or more has a layer of its own [bytes]; so has every safetensors shard."""

MAX_LAYERS = 110
"""Layers of one manifest by default: podman 4 and CRI-O 1.25 stop at 128."""


@dataclass(frozen=True)
class PlannedLayer:
    """The files of one layer, in order, and how they become its bytes."""

    kind: Kind
    form: Form
    prefix: str
    entries: tuple[Entry, ...]

    @property
    def members(self) -> list[Member]:
        return [Member(self.prefix + entry.path, entry.size) for entry in self.entries]

    @property
    def title(self) -> str:
        """What to call the layer in front of a user."""
        return self.entries[0].path if len(self.entries) == 1 else f"{len(self.entries)} {self.kind} files"

    @property
    def identity(self) -> str:
        """Names the blob's bytes before they are read; empty when the source does not say which version they are."""
        versions = [entry.version for entry in self.entries]
        names = [f"{member.path}\0{member.size}" for member in self.members]
        return "\0".join([f"sealed {self.form}", *names, *versions]) if all(versions) else ""

    @property
    def size(self) -> int:
        """Size of the blob [bytes]."""
        return blob_size(self.form, self.members)


def plan_layers(entries: Sequence[Entry], layout: Layout, max_layers: int = MAX_LAYERS) -> list[PlannedLayer]:
    """Place every file.

    Files of their own layer come first, by kind and path; above `max_layers`, the fewest neighbours that fit share
    one. Then the small files, a layer a kind. A raw layer holds one file, so `max_layers` does not bind it.

    Raises:
        UsageProblem: A file matches no rule, or `max_layers` leaves no room.
    """
    groups: dict[tuple[bool, Kind, Form, str], list[Entry]] = {}
    for entry in sorted(entries, key=lambda entry: entry.path.encode()):
        rule = layout.rule(entry.path)
        small = rule.form == "tar" and entry.size < ALONE_FROM and not entry.path.endswith(SUFFIX)
        groups.setdefault((small, rule.kind, rule.form, rule.media_type), []).append(entry)
    ordered = sorted(groups.items(), key=lambda item: (item[0][0], get_args(Kind).index(item[0][1])))
    large = [len(files) for (small, _, form, _), files in ordered if not small and form == "tar"]
    room = max_layers - sum(small for (small, *_), _ in ordered) - 1
    neighbours = _neighbours(large, room)
    layers: list[PlannedLayer] = []
    for (small, kind, form, _), files in ordered:
        step = 1 if form == "raw" else len(files) if small else neighbours
        layers += [
            PlannedLayer(kind, form, layout.prefix, tuple(files[at : at + step])) for at in range(0, len(files), step)
        ]
    return layers


def _neighbours(large: Sequence[int], room: int) -> int:
    """Return how many files must share a layer so that groups of these sizes fit into `room` layers."""
    if len(large) > max(room, 0):
        raise UsageProblem(
            "--max-layers is too small",
            why=f"{room} layers are left for large files, which need at least {len(large)}",
            hint=f"allow {len(large) - room} more",
        )
    step = 1
    while sum(-(-count // step) for count in large) > room:
        step += 1
    return step
