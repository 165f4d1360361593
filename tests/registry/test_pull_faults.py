"""Whatever happens to a download, a folder gets right bytes or none of that name, and a proof says what is wrong."""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from modelctl.core.errors import (
    BadAnswer,
    ChecksumMismatch,
    Denied,
    DigestMismatch,
    ModelctlError,
    NotFound,
    Unavailable,
)
from tests.fakes.fault_proxy import Fault, fault_proxy, recorder
from tests.fakes.registries import Registry
from tests.registries import IMPATIENT, problems_at, pull_from, push_to
from tests.stores import files_of, layer_of

pytestmark = pytest.mark.usefixtures("hurried")

SHARD = "model-00001-of-00002.safetensors"
OFFSET = 4096
"""Where the file begins in its layer."""

PLACES = (OFFSET, OFFSET + 500_000, OFFSET + 1_000_175)
"""The file's first byte, one in its middle, its last."""

QUICK = replace(IMPATIENT, timeout_s=0.5)

ONCE = {
    **{f"answer cut at {at}": [Fault("LAYER", "cut-answer", at=at)] for at in (0, *PLACES)},
    **{f"stall at {at}": [Fault("LAYER", "stall", at=at)] for at in (0, PLACES[1])},
    **{f"answer shorter by {size}": [Fault("LAYER", "short", at=size)] for size in (1, 500_000)},
    **{f"{status}": [Fault("LAYER", "status", status=status)] for status in (408, 429, 500, 503)},
    "no answer": [Fault("LAYER", "no-answer")],
    "answer without end": [Fault("LAYER", "endless", times=99)],
    "cut three times": [Fault("LAYER", "cut-answer", at=9000, times=3)],
    "manifest cut": [Fault("^GET .*manifests", "cut-answer", at=100)],
    "manifest busy": [Fault("manifests", "status", status=503, times=2)],
    "manifest stalls": [Fault("^GET .*manifests", "stall", at=100)],
}

ALWAYS: dict[str, tuple[Fault, type[ModelctlError]]] = {
    **{f"byte {at} is another": (Fault("LAYER", "wrong-byte", at=at), ChecksumMismatch) for at in PLACES},
    "a byte of the header is another": (Fault("LAYER", "wrong-byte", at=10), ChecksumMismatch),
    "another range": (Fault("LAYER", "wrong-range"), BadAnswer),
    "always cut at once": (Fault("LAYER", "cut-answer", at=0), Unavailable),
    "comes in crumbs": (Fault("LAYER", "cut-answer", at=5), BadAnswer),
    "503": (Fault("LAYER", "status", status=503), Unavailable),
    "401": (Fault("LAYER", "status", status=401, headers={"WWW-Authenticate": "Basic"}), Denied),
    "403": (Fault("LAYER", "status", status=403), Denied),
    "404": (Fault("LAYER", "status", status=404), NotFound),
    "416": (Fault("LAYER", "status", status=416), BadAnswer),
    "redirect without end": (Fault("LAYER", "redirect", headers={"Location": "?again"}), BadAnswer),
    "a byte of the manifest is another": (Fault("^GET .*manifests", "wrong-byte", at=100), DigestMismatch),
    "manifest without end": (Fault("^GET .*manifests", "endless"), BadAnswer),
    "a shorter manifest": (Fault("^GET .*manifests", "short", at=1), DigestMismatch),
    "a byte of any blob is another": (Fault("^GET .*blobs", "wrong-byte", at=50), ChecksumMismatch),
}


@dataclass(frozen=True)
class Pushed:
    """A repository `name` at `host` that holds the model; `layer` is how a request for the first shard begins."""

    host: str
    name: str
    layer: str


@pytest.fixture(scope="session")
def pushed(plain: Registry, layout: str) -> Pushed:
    push_to(layout, f"{plain.host}/models/pushed:v1")
    folder = Path(layout.removeprefix("oci:").removesuffix(":v1"))
    return Pushed(plain.host, "models/pushed", f"^GET .*{layer_of(folder, SHARD)}")


def placed(fault: Fault, layer: str) -> Fault:
    return replace(fault, match=fault.match.replace("LAYER", layer))


def wrong_files(target: Path, model: Path) -> set[str]:
    """Return the names of those files that have other bytes than the model's."""
    right = files_of(model)
    return {name for name, data in files_of(target).items() if right.get(name) != data} if target.exists() else set()


def test_the_faults_are_placed_by_the_size_of_the_shard(model: Path) -> None:
    assert (model / SHARD).stat().st_size == PLACES[2] - OFFSET + 1


@pytest.mark.parametrize("case", ONCE)
def test_what_is_struck_for_a_while_is_pulled_whole(pushed: Pushed, model: Path, tmp_path: Path, case: str) -> None:
    with fault_proxy(pushed.host, *(placed(fault, pushed.layer) for fault in ONCE[case])) as proxy:
        pull_from(f"{proxy.host}/{pushed.name}:v1", tmp_path / "target", QUICK)

    assert files_of(tmp_path / "target") == files_of(model)


@pytest.mark.parametrize("case", ONCE)
def test_what_is_struck_for_a_while_is_proved_right(pushed: Pushed, case: str) -> None:
    with fault_proxy(pushed.host, *(placed(fault, pushed.layer) for fault in ONCE[case])) as proxy:
        assert problems_at(f"{proxy.host}/{pushed.name}:v1", QUICK) == {}


@pytest.mark.parametrize("case", ALWAYS)
def test_what_is_struck_always_is_one_error_and_no_wrong_file(
    pushed: Pushed, model: Path, tmp_path: Path, case: str
) -> None:
    fault, error = ALWAYS[case]
    struck = replace(placed(fault, pushed.layer), times=999)
    with fault_proxy(pushed.host, struck) as proxy, pytest.raises(error) as caught:
        pull_from(f"{proxy.host}/{pushed.name}:v1", tmp_path / "target", QUICK)

    assert (caught.value.exit_status, wrong_files(tmp_path / "target", model)) == (error.exit_status, set())


@pytest.mark.parametrize("at", PLACES)
def test_a_proof_names_the_file_that_came_with_another_byte(pushed: Pushed, at: int) -> None:
    with fault_proxy(pushed.host, Fault(pushed.layer, "wrong-byte", at=at)) as proxy:
        assert list(problems_at(f"{proxy.host}/{pushed.name}:v1")) == [SHARD]


def test_a_proof_names_the_file_that_is_not_there(pushed: Pushed) -> None:
    with fault_proxy(pushed.host, Fault(pushed.layer, "status", status=404, times=99)) as proxy:
        assert list(problems_at(f"{proxy.host}/{pushed.name}:v1")) == [SHARD]


def test_from_a_registry_without_ranges_a_model_is_pulled_whole(pushed: Pushed, model: Path, tmp_path: Path) -> None:
    with fault_proxy(pushed.host, Fault("^GET .*blobs", "whole", times=999)) as proxy:
        pull_from(f"{proxy.host}/{pushed.name}:v1", tmp_path / "target", QUICK)

    assert files_of(tmp_path / "target") == files_of(model)


def test_after_a_cut_only_what_is_missing_is_asked_for(pushed: Pushed, tmp_path: Path) -> None:
    with fault_proxy(pushed.host, Fault(pushed.layer, "cut-answer", at=500_000)) as proxy:
        pull_from(f"{proxy.host}/{pushed.name}:v1", tmp_path / "target", QUICK)

        assert "bytes=500000-" in "".join(proxy.ranges)


def test_a_blob_may_come_from_another_host(pushed: Pushed, model: Path, tmp_path: Path) -> None:
    blob = f"/v2/{pushed.name}/blobs/{pushed.layer.rpartition('*')[2]}"
    away = Fault(pushed.layer, "redirect", headers={"Location": f"http://{pushed.host}{blob}"}, times=99)
    with fault_proxy(pushed.host, away) as proxy:
        pull_from(f"{proxy.host}/{pushed.name}:v1", tmp_path / "target", QUICK)

    assert files_of(tmp_path / "target") == files_of(model)


def test_another_host_without_the_blob_is_one_error_and_sees_no_credentials(
    pushed: Pushed, tmp_path: Path, authfile: str
) -> None:
    with recorder() as other:
        away = Fault(pushed.layer, "redirect", headers={"Location": f"http://{other.host}/x"}, times=99)
        basic = Fault("^HEAD", "status", status=401, headers={"WWW-Authenticate": "Basic"})
        with fault_proxy(pushed.host, away, basic) as proxy:
            Path(authfile).write_text(json.dumps({"auths": {proxy.host: {"auth": "YWxpY2U6czNjcmV0"}}}))
            with pytest.raises(NotFound):
                pull_from(f"{proxy.host}/{pushed.name}:v1", tmp_path / "target", replace(QUICK, authfile=authfile))

    assert set(other.authorizations) == {""}
