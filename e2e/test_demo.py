"""The demo runs, and ends badly when a claim of it does not hold."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

from e2e.command import run
from e2e.demo import check, split


def test_the_demo_runs_to_its_summary() -> None:
    assert "new bytes of v2" in run(sys.executable, "-m", "e2e.demo", cwd=Path(__file__).parents[1])


def test_a_claim_that_does_not_hold_ends_the_demo_with_status_1() -> None:
    with pytest.raises(SystemExit) as ended:
        check("two is three", holds=False)
    assert ended.value.code == 1


def test_every_tensor_is_in_one_shard_and_shards_are_balanced() -> None:
    assert split({"a": 8, "b": 5, "c": 5, "d": 4, "e": 4, "f": 1}) == [["a"], ["b", "f"], ["c"], ["d", "e"]]
