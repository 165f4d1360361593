"""The digest cache as a user sees it."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from modelctl.core.types import Entry, digest_of
from modelctl.flows.cache import list_cache, prune_cache
from modelctl.packing.cache import open_cache
from modelctl.packing.plan import PlannedLayer


@pytest.fixture
def three() -> None:
    """Layers a, b and c, of 1, 2 and 3 bytes; a was used last."""
    layers = [PlannedLayer("doc", "raw", "", (Entry(path=path, size=1, version="v"),)) for path in "abc"]
    with open_cache() as cache:
        for size, layer in enumerate(layers, 1):
            cache.keep(layer, digest_of(layer.title.encode()), size, ())
        cache.find(layers[0])


@pytest.mark.usefixtures("three")
def test_layers_are_listed_with_what_they_hashed_to() -> None:
    report = list_cache()
    assert [(layer.title, layer.digest, layer.size) for layer in report.layers] == [
        ("a", digest_of(b"a"), 1),
        ("c", digest_of(b"c"), 3),
        ("b", digest_of(b"b"), 2),
    ]
    assert (report.folder, report.problem) == (f"{os.environ['XDG_CACHE_HOME']}/modelctl/digests", "")


@pytest.mark.usefixtures("three")
def test_what_is_pruned_and_left_is_counted() -> None:
    report = prune_cache(3600.0, 1)
    assert (report.forgotten, report.left, report.problem) == (2, 1, "")
    assert [layer.title for layer in list_cache().layers] == ["a"]


@pytest.mark.usefixtures("three")
def test_what_was_used_lately_is_not_pruned() -> None:
    assert prune_cache(3600.0, 100).forgotten == 0


def test_a_cache_that_cannot_be_used_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").write_text("")
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "file"))
    assert ("Not a directory" in list_cache().problem, "Not a directory" in prune_cache(0, 0).problem) == (True, True)
