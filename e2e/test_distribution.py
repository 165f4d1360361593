"""A repository on distribution 3.1 is a store as any other, and an upload that broke there goes on where it stood."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest
import stamina

from modelctl.core.progress import Progress
from modelctl.core.reference import parse_reference
from modelctl.core.retry import ATTEMPTS
from modelctl.flows.verify_regions import VerifyOptions, verify_regions
from modelctl.registry.ocidir import OciDir
from modelctl.registry.remote import RemoteStore
from tests.conformance.stores import StoreConformance
from tests.conformance.uploads import LAST, MIDDLE, UploadConformance
from tests.fakes.fault_proxy import Fault, fault_proxy
from tests.fakes.registries import Registry, registry
from tests.flows.test_attached import IN_TOTO_TYPE, TWIN_TYPE, kinds, sign
from tests.models import write_model
from tests.registries import problems_at, push_to, remote
from tests.stores import flip, layer_of, manifest_of, pack_model

BIN = Path(__file__).parents[1] / "build" / "go" / "bin"
NUMBERS = itertools.count(1)


@pytest.fixture(autouse=True)
def home(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Settings and journals of a test's own."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path / "cache"))


@pytest.fixture(scope="module")
def plain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    folder = tmp_path_factory.mktemp("distribution") / "registry"
    with registry(folder, program=(str(BIN / "registry"), "serve")) as server:
        yield server


@pytest.fixture
def repository() -> str:
    return f"models/test-{next(NUMBERS)}"


@pytest.fixture
def hurried() -> Iterator[None]:
    with stamina.set_testing(True, attempts=ATTEMPTS):
        yield


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_model(tmp_path_factory.mktemp("model") / "model", shards=2, size=1_000_000)


@pytest.fixture(scope="module")
def layout(model: Path) -> str:
    pack_model(model, model.parent / "layout", provenance=False)
    return f"oci:{model.parent}/layout:v1"


class TestStore(StoreConformance):
    @pytest.fixture
    def store(self, plain: Registry, repository: str) -> RemoteStore:
        return remote(plain.host, repository)


class TestUploads(UploadConformance):
    """The fixtures are the module's."""


@pytest.fixture
def size(layout: str) -> int:
    """What the blobs of the model have in all [bytes]."""
    manifest = manifest_of(Path(layout.removeprefix("oci:").removesuffix(":v1")))
    return sum(int(item["size"]) for item in (*manifest["layers"], manifest["config"]))


@pytest.mark.parametrize("at", [MIDDLE, LAST])
def test_after_a_cut_only_what_is_missing_is_sent(
    plain: Registry, repository: str, layout: str, size: int, at: int
) -> None:
    with fault_proxy(plain.host, Fault("^PATCH", "cut-request", at=at)) as proxy:
        push_to(layout, f"{proxy.host}/{repository}:v1", jobs=1)

        assert proxy.patched == size


def test_after_an_answer_that_was_lost_nothing_is_sent_again(
    plain: Registry, repository: str, layout: str, size: int
) -> None:
    with fault_proxy(plain.host, Fault("^PATCH", "no-answer", times=99)) as proxy:
        push_to(layout, f"{proxy.host}/{repository}:v1", jobs=1)

        assert proxy.patched == size


def test_an_upload_whose_status_is_wrong_begins_again(plain: Registry, repository: str, layout: str) -> None:
    lies = (Fault("^PATCH", "cut-request", at=MIDDLE), Fault("^GET .*uploads", "less"))
    with fault_proxy(plain.host, *map(replace, lies)) as proxy:
        push_to(layout, f"{proxy.host}/{repository}:v1", jobs=1)

    assert problems_at(f"{plain.host}/{repository}:v1") == {}


def test_bytes_that_rotted_are_kept_until_their_file_is_removed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, plain: Registry, repository: str, layout: str
) -> None:
    """So `verify --regions --repair` says; where it is not so any more, the hint can go."""
    (tmp_path / "mine.toml").write_text(f'[regions.a]\nregistry = "{plain.host}"\n')
    monkeypatch.setenv("MODELCTL_CONFIG", str(tmp_path / "mine.toml"))
    push_to(layout, f"{plain.host}/{repository}:v1")
    options = VerifyOptions(depth="crc", repair=True, origin=parse_reference(layout))
    store = Path(layout.removeprefix("oci:").removesuffix(":v1"))
    data = plain.blob_path(layer_of(store, "model-00001-of-00002.safetensors"))
    flip(data, 5000)
    found = [verify_regions(f"{repository}:v1", ("a",), options, Progress(), lambda _row: None)[0].regions[0]]
    data.unlink()
    found += [verify_regions(f"{repository}:v1", ("a",), options, Progress(), lambda _row: None)[0].regions[0]]

    assert ([row.state for row in found], str(data.relative_to(plain.root)) in found[0].hint) == (
        ["Bad", "Repaired"],
        True,
    )


def test_all_that_is_attached_travels(plain: Registry, repository: str, model: Path, tmp_path: Path) -> None:
    pack_model(model, tmp_path / "store", layouts=("image", "modelpack"))
    sign(OciDir(tmp_path / "store"), OciDir(tmp_path / "store").resolve("v1"))
    push_to(f"oci:{tmp_path}/store:v1", f"{plain.host}/{repository}:v1")
    store = remote(plain.host, repository)

    assert kinds(store, store.resolve("v1")) == {IN_TOTO_TYPE, TWIN_TYPE, "sig"}
