"""Whatever file operation of a pull fails or is its last, no file has other bytes than the model's."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.sweep import MODES, Sweep


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", ["pull-fresh", "pull-resume", "pull-over"])
def test_after_any_fault_every_file_is_right_and_the_next_run_finishes(
    sweep: Callable[[str, str], Sweep], operation: str, mode: str
) -> None:
    assert sweep(operation, mode).failures == []


def test_a_read_that_fails_ends_the_run_each_time(sweep: Callable[[str, str], Sweep]) -> None:
    result = sweep("pull-fresh", "broken-read")

    assert result.ended == result.cases > 15
