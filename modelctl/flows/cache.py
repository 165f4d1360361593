"""The digest cache as a user sees it: what is in it, and less of it."""

from __future__ import annotations

import msgspec

from modelctl.packing.cache import CachedLayer, cache_folder, open_cache


class CacheReport(msgspec.Struct, kw_only=True):
    """The layers of the cache in `folder`, the one used last first. `problem` says why it cannot be used."""

    folder: str
    layers: list[CachedLayer]
    problem: str


class CachePruneReport(msgspec.Struct, kw_only=True):
    """How many layers were forgotten, and how many are left."""

    folder: str
    forgotten: int
    left: int
    problem: str


def list_cache() -> CacheReport:
    with open_cache() as cache:
        return CacheReport(folder=str(cache_folder()), layers=cache.entries(), problem=cache.problem)


def prune_cache(older_than_s: float, max_entries: int) -> CachePruneReport:
    """Forget layers that were not used for `older_than_s` [s], and all but the `max_entries` used last."""
    with open_cache() as cache:
        forgotten = cache.prune(older_than_s, max_entries)
        left = len(cache.entries())
        return CachePruneReport(folder=str(cache_folder()), forgotten=forgotten, left=left, problem=cache.problem)
