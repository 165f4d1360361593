"""What is found before a byte moves: at the source, on the way, and where it would go."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from modelctl.core.access import Access
from modelctl.core.errors import UsageProblem
from modelctl.flows.doctor import DoctorOptions, DoctorReport, doctor
from modelctl.flows.findings import Finding, Shape, check_limits
from modelctl.registry.quirks import quirks_of
from tests.fakes.oss import Oss
from tests.fakes.registries import Registry
from tests.flows.places import Place
from tests.registries import IMPATIENT, push_to
from tests.stores import files_of


def examined(source: object = "", destination: str = "", access: Access = IMPATIENT, **options: Any) -> DoctorReport:
    return doctor(str(source), destination, DoctorOptions(access=access, **options))


def by_check(report: DoctorReport, subject: str) -> dict[str, Finding]:
    return {one.check: one for one in report.findings if one.subject == subject}


def problems(report: DoctorReport) -> list[tuple[str, str]]:
    assert report.ok == all(one.state != "problem" for one in report.findings)
    return [(one.subject, one.check) for one in report.findings if one.state == "problem"]


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Registry) -> None:
    text = f'[regions.live]\nregistry = "{plain.host}"\nnamespace = "m"\n[regions.dead]\nregistry = "127.0.0.1:1"\n'
    (tmp_path / "config.toml").write_text(text)
    monkeypatch.setenv("MODELCTL_CONFIG", str(tmp_path / "config.toml"))


def test_a_model_that_can_go_to_a_registry_is_well(model: Path, plain: Registry, repository: str) -> None:
    report = examined(model, f"{plain.host}/{repository}:v1")
    assert problems(report) == []
    assert {(one.subject, one.check) for one in report.findings} >= {
        ("source", "list"),
        ("source", "read"),
        ("destination", "push"),
        ("destination", "layer-size"),
        ("destination", "manifest-size"),
    }


@pytest.mark.usefixtures("settings")
def test_regions_are_looked_at_and_the_dead_one_is_named(model: Path) -> None:
    assert problems(examined(model, regions=("all",), to="qwen/q")) == [("dead", "reach")]


@pytest.mark.usefixtures("settings")
def test_without_arguments_every_region_is_looked_at() -> None:
    assert {one.subject for one in examined().findings} == {"live", "dead"}


@pytest.mark.usefixtures("settings")
def test_an_artifact_keeps_its_name_in_regions(packed: Path, plain: Registry, repository: str) -> None:
    push_to(f"oci:{packed}:v1", f"{plain.host}/m/{repository}:v1")
    report = examined(f"{plain.host}/m/{repository}:v1", regions=("live",))
    assert (problems(report), f"m/{repository} " in by_check(report, "live")["pull"].seen) == ([], True)


def test_an_artifact_on_disk_is_a_source(packed: Path, plain: Registry, repository: str) -> None:
    report = examined(f"oci:{packed}:v1", f"{plain.host}/{repository}:v1")
    assert (problems(report), by_check(report, "source")["read"].state) == ([], "ok")


def test_a_lone_reference_is_a_destination(plain: Registry, repository: str) -> None:
    report = examined(f"{plain.host}/{repository}")
    assert {one.subject for one in report.findings} == {"destination"}


def test_an_artifact_that_is_not_there_is_a_problem(plain: Registry, repository: str) -> None:
    report = examined(f"{plain.host}/{repository}:v1", f"{plain.host}/{repository}:v2")
    assert problems(report) == [("source", "read")]


def test_a_folder_that_is_not_there_is_a_problem() -> None:
    assert problems(examined("./nowhere", "oci:./store")) == [("source", "read")]


def test_a_pickle_is_a_problem_with_its_name(model: Path, tmp_path: Path) -> None:
    (model / "old.bin").write_bytes(b"x")
    report = examined(model, f"oci:{tmp_path}/store")
    assert (problems(report), "old.bin" in by_check(report, "source")["names"].seen) == ([("source", "names")], True)


def test_too_few_layers_are_a_problem(model: Path, tmp_path: Path) -> None:
    assert problems(examined(model, f"oci:{tmp_path}/store", max_layers=1)) == [("source", "read")]


def test_room_on_disk_is_looked_at(model: Path, tmp_path: Path) -> None:
    with (model / "model-00005-of-00005.safetensors").open("wb") as huge:
        huge.truncate(1 << 42)
    report = examined(model, f"oci:{tmp_path}/store/deep")
    assert (problems(report), str(tmp_path) in by_check(report, "destination")["disk"].seen) == (
        [("destination", "disk")],
        True,
    )


def test_a_bucket_is_listed_and_read(bucket: tuple[Place, Oss], model: Path, tmp_path: Path) -> None:
    place, server = bucket
    place.put(files_of(model))
    report = examined(place.url, f"oci:{tmp_path}/store")
    assert (problems(report), server.sent < 5000) == ([], True)


def test_a_destination_and_regions_contradict_each_other(model: Path) -> None:
    with pytest.raises(UsageProblem):
        examined(model, "h.example/q", regions=("a",))


def limits(host: str, shape: Shape, kind: str = "") -> dict[str, str]:
    return {one.check: one.state for one in check_limits("r", quirks_of(host, kind), shape)}


LARGE = Shape([("model-1.safetensors", 60 << 30), ("README.md", 10)], 2000)
MANY = Shape([(f"model-{number}.safetensors", 1 << 20) for number in range(163)], 80_000)


@pytest.mark.parametrize(
    ("host", "shape", "expected"),
    [
        ("registry.example", LARGE, {}),
        ("registry.example", MANY, {}),
        ("registry.example", Shape([("a", 1)], 5 << 20), {"manifest-size": "problem"}),
        ("1.dkr.ecr.us-east-1.amazonaws.com", LARGE, {"layer-size": "problem"}),
        ("1.dkr.ecr.us-east-1.amazonaws.com", MANY, {"layers": "problem"}),
        ("ghcr.io", LARGE, {"layer-size": "problem", "upload-time": "warning"}),
        ("ghcr.io", MANY, {}),
        ("x.azurecr.io", LARGE, {}),
        ("registry.example", Shape([], 100), {}),
    ],
)
def test_what_a_registry_does_not_take_is_told(host: str, shape: Shape, expected: dict[str, str]) -> None:
    assert {check: state for check, state in limits(host, shape).items() if state != "ok"} == expected


def test_a_kind_that_the_settings_name_has_its_limits() -> None:
    assert limits("mirror.example", LARGE, "ecr")["layer-size"] == "problem"
