"""A small model, a place for a store, a store that holds the model as `v1`; the model in a registry, and a cluster."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from modelctl.cluster.labels import disk_label, warm_label
from modelctl.flows import node_jobs
from modelctl.packing.artifact import Artifact, load_artifact
from modelctl.registry.ocidir import OciDir
from tests.fakes.kube_api import KubeApi, kube_api
from tests.fakes.kube_jobs import Player, ready_node
from tests.fakes.oss import Oss
from tests.fakes.registries import Registry, registry
from tests.fakes.token_server import token_server
from tests.flows.places import PLACES, Place, at_oss
from tests.flows.regional import Guarded, Settings
from tests.models import write_model
from tests.registries import ALICE, push_to
from tests.stores import pack_model


@pytest.fixture
def model(tmp_path: Path) -> Path:
    return write_model(tmp_path / "model")


@pytest.fixture
def store(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "store"


@pytest.fixture
def packed(model: Path, store: Path) -> Path:
    """The store, with the model in it."""
    pack_model(model, store)
    return store


@pytest.fixture(params=PLACES)
def place(request: pytest.FixtureRequest, home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Place]:
    """Each kind of source but a folder, with the environment that it is reached by."""
    with PLACES[request.param](home) as place:
        for name, value in place.variables.items():
            monkeypatch.setenv(name, value)
        yield place


@pytest.fixture
def bucket(home: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[tuple[Place, Oss]]:
    """A bucket, and the server that has it."""
    with at_oss(home) as place:
        for name, value in place.variables.items():
            monkeypatch.setenv(name, value)
        assert isinstance(place.server, Oss)
        yield place, place.server


@pytest.fixture
def target(tmp_path: Path) -> Path:
    """A folder that is not there yet."""
    return tmp_path / "target"


@dataclass(frozen=True)
class Published:
    """An artifact in a registry, and what nodes are labelled with that have it."""

    text: str
    artifact: Artifact

    @property
    def digest(self) -> str:
        return self.artifact.root.digest

    @property
    def disk(self) -> str:
        return disk_label(self.artifact.root.digest)

    @property
    def warm(self) -> str:
        return warm_label(self.artifact.weights)


@pytest.fixture(scope="session")
def published(plain: Registry, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """A model that clusters can mount."""
    return publish(plain, tmp_path_factory.mktemp("published"))


@pytest.fixture(scope="session")
def modelpack(plain: Registry, tmp_path_factory: pytest.TempPathFactory) -> Published:
    """The same as a ModelPack, which they cannot."""
    return publish(plain, tmp_path_factory.mktemp("modelpack"), layouts=("modelpack",))


def publish(plain: Registry, folder: Path, **options: Any) -> Published:
    pack_model(write_model(folder / "model"), folder / "store", **options)
    text = f"{plain.host}/models/{folder.name}:v1"
    push_to(f"oci:{folder / 'store'}:v1", text)
    return Published(text, load_artifact(OciDir(folder / "store"), OciDir(folder / "store").resolve("v1")))


@pytest.fixture
def api() -> Iterator[KubeApi]:
    """A cluster of two nodes."""
    with kube_api() as server:
        server.objects["nodes"] = [ready_node("n1"), ready_node("n2")]
        server.objects["namespaces"].append({"metadata": {"name": "modelctl-system"}})
        yield server


@pytest.fixture
def player(api: KubeApi, published: Published) -> Player:
    """Who does there what a cluster does with Jobs."""
    return Player(api, published.artifact.size)


@pytest.fixture
def hurried(monkeypatch: pytest.MonkeyPatch) -> None:
    """Nobody waits long before asking why nothing moves."""
    for name, seconds in {"TICK_S": 0.05, "_PATIENCE_S": 0.3, "_EVENTS_S": 0.05}.items():
        monkeypatch.setattr(node_jobs, name, seconds)


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The user's settings, without any region yet."""
    monkeypatch.setenv("MODELCTL_CONFIG", str(tmp_path / "mine.toml"))
    return Settings(tmp_path / "mine.toml")


@pytest.fixture(scope="session")
def guarded(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("guarded")
    with ExitStack() as stack:
        password = stack.enter_context(registry(folder / "password", password=ALICE[1], tls=True))
        realm = stack.enter_context(token_server(folder))
        token = stack.enter_context(registry(folder / "token", tokens=realm))
        yield Guarded(password, token, realm.url.removeprefix("http://"))


@pytest.fixture
def three(settings: Settings, guarded: Guarded, plain: Registry, repository: str) -> Settings:
    """Three regions, each with another way of asking who is there."""
    alice = (f'username = "{ALICE[0]}"', f'password = "{ALICE[1]}"')
    settings.add("open", plain.host, namespace="open")
    settings.add("password", guarded.password.host, *alice, f'ca_file = "{guarded.password.ca_file}"')
    settings.add("token", guarded.token.host, *alice, f'trust_realm = ["{guarded.realm}"]', namespace="deep/er")
    return settings
