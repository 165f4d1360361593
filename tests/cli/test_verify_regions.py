"""verify --regions as a user types it: what it prints, and how it ends."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from pathlib import Path
from subprocess import CompletedProcess
from typing import Any

import pytest

from tests.cli.program import run
from tests.fakes.registries import Registry, registry
from tests.models import write_model
from tests.stores import flip, layer_of

SHARD = "model-00001-of-00002.safetensors"
NAME = "qwen/qwen3-8b:v1"


class Two:
    """Two regions, `near` and `far`, that have a model."""

    def __init__(self, folder: Path, near: Registry, far: Registry) -> None:
        self.near, self.far, self.store = near, far, folder / "store"
        self.config = folder / "mine.toml"
        self.config.write_text(f'[regions.near]\nregistry = "{near.host}"\n[regions.far]\nregistry = "{far.host}"\n')
        run("pack", write_model(folder / "model", shards=2, size=10_000), f"oci:{self.store}:v1").check_returncode()
        self.run("push", f"oci:{self.store}:v1", "--regions", "all", "--to", NAME).check_returncode()

    def run(self, *args: str) -> CompletedProcess[str]:
        return run(*args, MODELCTL_CONFIG=str(self.config))

    def spoil(self, registry: Registry) -> None:
        flip(registry.blob_path(layer_of(self.store, SHARD)), 5000)


@pytest.fixture
def two(tmp_path: Path) -> Iterator[Two]:
    with registry(tmp_path / "near") as near, registry(tmp_path / "far") as far:
        yield Two(tmp_path, near, far)


Verify = Callable[..., CompletedProcess[str]]


@pytest.fixture
def verify(two: Two) -> Verify:
    return lambda *flags: two.run("verify", NAME, "--regions", "all", *flags)


def test_when_all_is_right_the_status_is_0(verify: Verify) -> None:
    ended = verify("--depth", "crc")

    assert (ended.returncode, [line.split()[:2] for line in ended.stdout.splitlines()]) == (
        0,
        [["near", "Good"], ["far", "Good"]],
    )


def test_when_some_are_not_the_status_is_9_and_the_shard_is_named(two: Two, verify: Verify) -> None:
    two.spoil(two.far)
    ended = verify("--depth", "crc", "-q")

    assert (
        ended.returncode,
        f"{SHARD}  {layer_of(two.store, SHARD)}  CRC-32 is" in ended.stdout,
        ended.stderr.startswith("partial: 1 of 2 regions not right\n  why: far: "),
        "--repair" in ended.stderr,
    ) == (9, True, True, True)


def test_when_all_are_bad_alike_the_status_is_of_that(two: Two, verify: Verify) -> None:
    two.spoil(two.far)
    two.spoil(two.near)

    assert verify("--depth", "crc").returncode == 4


def test_as_json_it_says_what_was_found_in_each_region(two: Two, verify: Verify) -> None:
    two.spoil(two.far)
    found: dict[str, Any] = json.loads(verify("--depth", "crc", "-o", "json").stdout)
    (blob,) = found["regions"][1]["bad"]

    assert ([one["state"] for one in found["regions"]], blob["digest"], blob["files"][0]["path"]) == (
        ["Good", "Bad"],
        layer_of(two.store, SHARD),
        SHARD,
    )


def test_repaired_is_right(two: Two, verify: Verify) -> None:
    two.far.blob_path(layer_of(two.store, SHARD)).unlink()
    ended = verify("--depth", "crc", "--repair")

    assert (ended.returncode, "repaired from near" in ended.stdout, verify().returncode) == (0, True, 0)


@pytest.mark.parametrize(
    "flags",
    [
        ("--repair",),
        ("--from", "oci:./s:v1"),
        ("--concurrency", "2"),
        ("--regions", "all", "--against", "oci:./s:v1"),
        ("--regions", "mars"),
    ],
)
def test_what_makes_no_sense_is_refused(two: Two, flags: tuple[str, ...]) -> None:
    assert two.run("verify", NAME, *flags).returncode == 2
