"""pack --regions as a user types it: what it prints, what it refuses, and how it ends."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.cli.program import run, run_on_terminal
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.registries import Registry

Pack = Callable[..., "subprocess.CompletedProcess[str]"]


@pytest.fixture
def config(tmp_path: Path) -> Path:
    return tmp_path / "mine.toml"


@pytest.fixture
def pack(config: Path, model: Path) -> Pack:
    """Pack the model, with flags."""
    return lambda *flags: run("pack", model, *flags, MODELCTL_CONFIG=str(config))


def region(name: str, host: str) -> str:
    return f'[regions.{name}]\nregistry = "{host}"\nnamespace = "{name}"\n'


@pytest.fixture
def two(config: Path, plain: Registry) -> None:
    config.write_text(region("a", plain.host) + region("b", plain.host))


@pytest.fixture
def one_fails(config: Path, plain: Registry) -> Iterator[None]:
    with fault_proxy(plain.host, Fault("^POST .*uploads", "status", status=400, times=999)) as proxy:
        config.write_text(region("good", plain.host) + region("bad", proxy.host))
        yield


@pytest.mark.usefixtures("two")
def test_it_prints_a_line_for_each_region(pack: Pack, repository: str) -> None:
    ended = pack("--regions", "all", "--to", f"{repository}:v1")

    assert ended.returncode == 0, ended.stderr
    assert [line.split()[:2] for line in ended.stdout.splitlines()] == [["a", "Pushed"], ["b", "Pushed"]]


@pytest.mark.usefixtures("two")
def test_as_json_it_has_the_regions_and_what_was_packed(pack: Pack, repository: str) -> None:
    found = json.loads(pack("--regions", "all", "--to", f"{repository}:v1", "-o", "json").stdout)
    (artifact,) = found["packed"]["artifacts"]

    assert [one["state"] for one in found["regions"]] == ["Pushed", "Pushed"]
    assert (artifact["reference"], artifact["tag"]) == (f"{repository}@{found['digest']}", "v1")


@pytest.mark.usefixtures("two")
def test_a_dry_run_says_what_each_lacks(pack: Pack, repository: str) -> None:
    ended = pack("--regions", "all", "--to", f"{repository}:v1", "--dry-run")

    assert [line.split()[1:7:2] for line in ended.stdout.splitlines()] == [["Planned", "4", "to"]] * 2, ended


@pytest.mark.usefixtures("two")
def test_on_a_terminal_it_draws_a_table(config: Path, model: Path, repository: str) -> None:
    flags = ("--regions", "all", "--to", f"{repository}:v1")
    _, seen = run_on_terminal("pack", str(model), *flags, MODELCTL_CONFIG=str(config))

    assert ("REGION" in seen, "Pushed" in seen) == (True, True)


@pytest.mark.usefixtures("one_fails")
def test_when_some_fail_the_status_is_9_and_they_are_named_with_the_next_step(pack: Pack, repository: str) -> None:
    ended = pack("--regions", "all", "--to", f"{repository}:v1", "--quiet")

    assert (ended.returncode, [line.split()[1] for line in ended.stdout.splitlines()]) == (9, ["Pushed", "Failed"])
    assert ended.stderr.startswith("partial: 1 of 2 regions failed\n  why: bad: ")
    assert "the same command sends what is missing" in ended.stderr


@pytest.mark.usefixtures("two")
@pytest.mark.parametrize(
    "flags",
    [
        (),
        ("oci:./there:v1", "--regions", "a", "--to", "m"),
        ("oci:./there:v1", "--to", "m"),
        ("oci:./there:v1", "--bandwidth", "2Gbit"),
        ("oci:./there:v1", "--concurrency", "2"),
        ("--regions", "a"),
        ("--regions", "a", "--to", "m", "--bandwidth", "fast"),
        ("--regions", "nowhere", "--to", "m"),
        ("--regions", "a", "--to", "registry.example/m:v1"),
        ("--regions", "a", "--to", f"m@sha256:{'0' * 64}"),
    ],
)
def test_what_makes_no_sense_is_refused(pack: Pack, flags: tuple[str, ...]) -> None:
    ended = pack(*flags)

    assert (ended.returncode, "  why: " in ended.stderr) == (2, True)
