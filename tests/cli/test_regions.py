"""`regions` and `doctor` as a user runs them."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.fakes.registries import Registry, free_port


@pytest.fixture
def config(tmp_path: Path, plain: Registry) -> str:
    """Settings with a region that lives, one that is dead, and one without the password that it needs."""
    path = tmp_path / "config.toml"
    path.write_text(
        f'[regions.live]\nregistry = "{plain.host}"\nnamespace = "m"\nbandwidth = "2Gbit"\nconnections = 4\n'
        f'[regions.dead]\nregistry = "127.0.0.1:{free_port()}"\n'
        '[regions.secret]\nregistry = "h.example"\nusername = "alice"\npassword = "${A_PASSWORD}"\n'
    )
    return str(path)


def test_regions_are_listed(config: str, plain: Registry) -> None:
    ended = run("regions", "ls", MODELCTL_CONFIG=config, A_PASSWORD="s3cret")
    assert ended.stdout.splitlines()[0] == f"live  {plain.host}/m  docker  250.0 MB/s, 4 connections"


@pytest.mark.parametrize("output", ["text", "json"])
def test_a_listing_shows_no_password(config: str, output: str) -> None:
    ended = run("regions", "ls", "-o", output, MODELCTL_CONFIG=config, A_PASSWORD="s3cret")
    assert (ended.returncode, "s3cret" in ended.stdout + ended.stderr) == (0, False)


def test_a_region_that_is_ready_ends_well(config: str) -> None:
    ended = run("regions", "check", "live", "--to", "qwen/q", MODELCTL_CONFIG=config)
    states = [line.split()[0] for line in ended.stdout.splitlines()]
    assert (ended.returncode, states) == (0, ["ok"] * 5)


def test_one_that_is_dead_ends_with_partial_and_its_name(config: str) -> None:
    ended = run("regions", "check", "live", "dead", MODELCTL_CONFIG=config)
    assert (ended.returncode, ended.stderr) == (9, "partial: 1 of 2 regions cannot be used\n  why: dead\n")


def test_a_check_is_json_too(config: str) -> None:
    ended = run("regions", "check", "--all", "-o", "json", MODELCTL_CONFIG=config)
    assert {one["region"]: one["ok"] for one in json.loads(ended.stdout)} == {
        "live": True,
        "dead": False,
        "secret": False,
    }


@pytest.mark.parametrize("args", [(), ("live", "--all"), ("mars",)])
def test_who_does_not_say_which_regions_is_refused(config: str, args: tuple[str, ...]) -> None:
    assert run("regions", "check", *args, MODELCTL_CONFIG=config).returncode == 2


def test_a_doctor_without_a_complaint_ends_well(store: str, plain: Registry) -> None:
    assert run("doctor", f"{store}:v1", f"{plain.host}/m/x:v1").returncode == 0


def test_a_doctor_with_one_ends_with_partial_and_what_to_do(store: str) -> None:
    ended = run("doctor", f"{store}:v1", f"127.0.0.1:{free_port()}/m/x:v1")
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (9, "partial: 1 problem")
    assert "  try: check name and port" in ended.stdout


def test_a_doctors_findings_are_json_too(model: Path, config: str) -> None:
    ended = run("doctor", model, "--regions", "live", "--to", "qwen/q:v1", "-o", "json", MODELCTL_CONFIG=config)
    report = json.loads(ended.stdout)
    assert (report["ok"], {one["subject"] for one in report["findings"]}) == (True, {"source", "live"})
