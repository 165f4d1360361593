"""cache as a user types it."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest

from modelctl.core.types import Entry, digest_of
from modelctl.packing.cache import open_cache
from modelctl.packing.plan import PlannedLayer
from tests.cli.program import run


@pytest.fixture
def cache(home: Path) -> str:
    """Where the user's caches are; the digest cache in it has two layers, `b` used last."""
    with open_cache() as opened:
        for path in "ab":
            layer = PlannedLayer("doc", "raw", "", (Entry(path=path, size=1500, version="v"),))
            opened.keep(layer, digest_of(path.encode()), 1500, ())
    return str(home / "cache")


def test_layers_are_a_line_each(cache: str) -> None:
    lines = run("cache", "ls", XDG_CACHE_HOME=cache).stdout.splitlines()
    pattern = r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\dZ  sha256:[0-9a-f]{64}     1\.5 kB  [ab]"
    assert ([line[-1] for line in lines], [bool(re.fullmatch(pattern, line)) for line in lines]) == (
        ["b", "a"],
        [True, True],
    )


def test_json_is_one_document(cache: str) -> None:
    document = json.loads(run("cache", "ls", "-o", "json", XDG_CACHE_HOME=cache).stdout)
    assert [layer["digest"] for layer in document["layers"]] == [digest_of(b"b"), digest_of(b"a")]


@pytest.mark.parametrize(
    ("flags", "said"),
    [
        ("", "0 layers forgotten, 2 left\n"),
        ("--keep 1", "1 layer forgotten, 1 left\n"),
        ("--older-than 0", "2 layers forgotten, 0 left\n"),
    ],
)
def test_pruning_says_what_is_left(cache: str, flags: str, said: str) -> None:
    ended = run("cache", "prune", *flags.split(), XDG_CACHE_HOME=cache)
    assert (ended.returncode, ended.stdout, ended.stderr) == (0, said, "")


@pytest.mark.parametrize("verb", ["ls", "prune"])
def test_a_cache_that_cannot_be_used_is_a_note(tmp_path: Path, verb: str) -> None:
    (tmp_path / "file").write_text("")
    ended = run("cache", verb, XDG_CACHE_HOME=str(tmp_path / "file"))
    said = f"digest cache: {tmp_path}/file/modelctl/digests: Not a directory (ENOTDIR)\n"
    assert (ended.returncode, ended.stderr) == (0, said)
    assert run("cache", verb, "--quiet", XDG_CACHE_HOME=str(tmp_path / "file")).stderr == ""
