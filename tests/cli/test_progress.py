"""Progress as events."""

from __future__ import annotations

from typing import Any

from modelctl.cli.progress import EventProgress

Told = list[tuple[str, dict[str, Any]]]


def events(interval: float) -> tuple[EventProgress, Told]:
    told: Told = []
    return EventProgress("warm", lambda event, **facts: told.append((event, facts)), interval), told


def test_what_moves_is_told() -> None:
    progress, told = events(0)
    progress.expect(2, 100)
    progress.advance("a", 40)
    progress.advance("b", 60)
    assert [(event, facts["done"], facts["size"], facts["verb"]) for event, facts in told] == [
        ("progress", 40, 100, "warm"),
        ("progress", 100, 100, "warm"),
    ]
    assert isinstance(told[0][1]["seconds"], float)


def test_it_is_not_told_more_often_than_that() -> None:
    progress, told = events(3600)
    progress.expect(1, 100)
    progress.advance("a", 100)
    assert told == []


def test_a_file_that_is_kept_is_told_at_once() -> None:
    progress, told = events(3600)
    progress.keep("a", 100)
    assert told == [("file", {"path": "a", "size": 100})]
