"""A rate is kept by all who share it, and who has none is not held up."""

from __future__ import annotations

import time
from concurrent.futures import ThreadPoolExecutor

from modelctl.core.pace import PIECE, Pace, allowed


def seconds(pace: Pace, *sizes: int) -> float:
    """Return how long it takes to send so much, each size in a thread of its own."""
    began = time.monotonic()
    with ThreadPoolExecutor(len(sizes)) as pool:
        list(pool.map(pace.take, sizes))
    return time.monotonic() - began


def test_a_rate_is_not_exceeded() -> None:
    assert seconds(Pace(1_000_000), 300_000) >= 0.25


def test_all_who_share_a_rate_keep_it_together() -> None:
    assert seconds(Pace(1_000_000), 100_000, 100_000, 100_000) >= 0.25


def test_without_a_rate_all_may_go_at_once() -> None:
    assert allowed([], 1 << 30) == 1 << 30


def test_with_one_a_piece_may_go() -> None:
    assert allowed([Pace(1e12), Pace(1e12)], 1 << 30) == PIECE
