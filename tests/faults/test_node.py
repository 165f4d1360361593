"""Whatever file operation on a node's models fails or is the last, every model that is listed is whole and right."""

from __future__ import annotations

from collections.abc import Callable

import pytest

from tests.faults.sweep import MODES, Sweep


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("operation", ["node-pull", "node-remove"])
def test_after_any_fault_every_model_is_right_and_the_next_run_finishes(
    sweep: Callable[[str, str], Sweep], operation: str, mode: str
) -> None:
    assert sweep(operation, mode).failures == []
