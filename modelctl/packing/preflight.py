"""What is checked before the first byte is written: names, pickles, safetensors headers, the index, crc32.txt.

Reads headers and small documents by range; never a tensor, and never unpickles anything.
"""

from __future__ import annotations

import json
import posixpath
from collections.abc import Callable, Mapping, Sequence, Set
from contextlib import closing

import msgspec

from modelctl.core.errors import Invalid, NotFound
from modelctl.core.learned import learned
from modelctl.core.paths import check_paths
from modelctl.core.protocols import Source
from modelctl.core.types import Entry, Shard
from modelctl.packing.crc32_list import CRC32_LIST, MAX_LIST_SIZE, parse_crc32_list
from modelctl.packing.shards import SUFFIX, read_shard

PICKLES = (".bin", ".pt", ".pth", ".ckpt", ".pkl", ".pickle")
"""Suffixes, in any case, of files that run code when they are loaded."""

INDEX_SUFFIX = ".safetensors.index.json"

MAX_INDEX_SIZE = 256 << 20
"""Largest index.json that is read [bytes]."""


Read = Callable[[Entry, int], bytes]
"""Reads a whole file of at most so many bytes; `Invalid` when it is larger."""


class _Index(msgspec.Struct):
    weight_map: dict[str, str]


def check_names(entries: Sequence[Entry], *, allow_pickle: bool) -> None:
    """Refuse a model that could not be restored, before anything of it is read.

    Raises:
        Invalid: Names the file: a bad or clashing name, a pickle that was not allowed. NotFound: There is no file.
    """
    if not entries:
        raise NotFound("no file to pack", why="the source is empty, or --include and --exclude leave nothing")
    check_paths(entry.path for entry in entries)
    pickles = [entry.path for entry in entries if entry.path.lower().endswith(PICKLES) and not allow_pickle]
    if pickles:
        raise Invalid(
            f"{pickles[0]}" + (f" and {len(pickles) - 1} more" if pickles[1:] else ""),
            why="a pickle runs code on whoever loads it",
            hint="leave it out with --exclude, or pack it with --allow-pickle if you trust it",
        )


def check_shards(source: Source, entries: Sequence[Entry], fresh: Set[str], read: Read) -> None:
    """Refuse a model that could not be loaded: reads headers and indices.

    Args:
        source: Of the entries.
        entries: All files of the model.
        fresh: Paths of those that were not packed before: of the other shards headers are read when an index is fresh.
        read: Reads indices.

    Raises:
        Invalid: Names the file: a shard that the safetensors validator refuses, an index that names a shard or tensor
            which is not there.
    """
    indices = [entry for entry in entries if entry.path.endswith(INDEX_SUFFIX)]
    all_fresh = any(entry.path in fresh for entry in indices)
    shards = {
        entry.path: _read_shard(source, entry) if all_fresh or entry.path in fresh else None
        for entry in entries
        if entry.path.endswith(SUFFIX)
    }
    for entry in indices:
        _check_index(entry.path, read(entry, MAX_INDEX_SIZE), shards)


def _read_shard(source: Source, entry: Entry) -> Shard:
    with closing(source.open(entry)) as blob:
        return read_shard(blob, entry.path, entry.size)


def read_small(source: Source, entry: Entry, limit: int) -> bytes:
    """Read a whole file of at most `limit` bytes; `Invalid` when it is larger."""
    if entry.size > limit:
        raise Invalid(entry.path, why=f"it has {entry.size} bytes; at most {limit} are read")
    data = bytearray(entry.size)
    with closing(source.open(entry)) as blob:
        blob.read_into(0, memoryview(data))
    return bytes(data)


def _check_index(path: str, data: bytes, shards: Mapping[str, Shard | None]) -> None:
    """Compare an index with the shards that there are; of a shard that is None only that it is."""
    try:
        weight_map = msgspec.convert(json.loads(data), learned(_Index)).weight_map
    except (ValueError, RecursionError) as error:
        raise Invalid(path, why=f"it is not an index of shards: {error}") from error
    names = {path: frozenset(tensor.name for tensor in shard.tensors) for path, shard in shards.items() if shard}
    for tensor, shard in weight_map.items():
        place = posixpath.join(posixpath.dirname(path), shard)
        if place not in shards:
            raise Invalid(
                f"{path} names {shard[:200]!r}, which is not there",
                why=f"it has {len(set(weight_map.values()))} shards, the model {len(shards)}",
                hint="fetch the missing shard, or check --include and --exclude",
            )
        if tensor not in names.get(place, {tensor}):
            raise Invalid(f"{path} puts tensor {tensor[:200]!r} in {shard!r}", why="that shard does not hold it")


def own_crc32s(entries: Sequence[Entry], read: Read) -> dict[str, int]:
    """Return the CRC-32s that the model's own crc32.txt states, {path: CRC-32}; none when it has no such file."""
    own = next((entry for entry in entries if entry.path == CRC32_LIST), None)
    return parse_crc32_list(read(own, MAX_LIST_SIZE), CRC32_LIST) if own else {}


def check_listed(sums: Mapping[str, int], entries: Sequence[Entry], name: str, wanted: Callable[[str], bool]) -> None:
    """Refuse a list `name` of CRC-32s that names a file which is `wanted` and not there; `NotFound`."""
    missing = sorted(filter(wanted, sums.keys() - {entry.path for entry in entries}))
    if missing:
        raise NotFound(
            f"{missing[0]}" + (f" and {len(missing) - 1} more" if missing[1:] else ""),
            why=f"{name} lists it, and it is not there",
            hint="fetch the file, or name another list with --crc32-file",
        )
