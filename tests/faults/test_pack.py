"""Whatever file operation of a writer to a store fails or is its last, no tag points to something incomplete."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.sweep import MODES, Sweep


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", ["pack-twins", "pack-over", "retag"])
def test_after_any_fault_every_tag_verifies_and_the_next_run_finishes(
    sweep: Callable[[str, str], Sweep], operation: str, mode: str
) -> None:
    assert sweep(operation, mode).failures == []


@pytest.mark.parametrize("mode", ["kill", "no-space", "full", "broken", "dead", "broken-read"])
def test_after_any_fault_of_prune_every_tag_verifies_and_the_next_prune_finishes(
    sweep: Callable[[str, str], Sweep], mode: str
) -> None:
    assert sweep("prune", mode).failures == []


def test_a_kill_ends_the_run_at_each_operation(sweep: Callable[[str, str], Sweep]) -> None:
    result = sweep("pack-fresh", "kill")

    assert result.ended == result.cases > 50
