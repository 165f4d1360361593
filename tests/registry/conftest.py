"""A registry that sends its clients to a token realm, and users with and without credentials."""

from __future__ import annotations

import os
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest
import stamina

from modelctl.core.access import Access
from modelctl.core.retry import ATTEMPTS
from modelctl.registry.credentials import save_credentials
from tests.fakes.docker_config import HELPER, install
from tests.fakes.registries import Registry, make_certificate, registry
from tests.fakes.token_server import TokenServer, token_server
from tests.models import write_model
from tests.registries import ALICE
from tests.stores import pack_model


@dataclass(frozen=True)
class Guarded:
    """A registry, and the realm that it believes."""

    host: str
    realm: TokenServer

    @property
    def realm_host(self) -> str:
        return self.realm.url.removeprefix("http://")


@pytest.fixture(scope="session")
def token_registry(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Guarded]:
    folder = tmp_path_factory.mktemp("tokens")
    with token_server(folder) as realm, registry(folder / "registry", tokens=realm) as server:
        yield Guarded(server.host, realm)


@pytest.fixture
def guarded(token_registry: Guarded) -> Guarded:
    """The registry, its realm as it was in the beginning."""
    fresh = TokenServer()
    realm = token_registry.realm
    realm.users, realm.identity_tokens, realm.requests = fresh.users, fresh.identity_tokens, []
    realm.life_s, realm.said_s, realm.answer, realm.anonymous_pull = fresh.life_s, fresh.said_s, None, False
    return token_registry


@pytest.fixture
def authfile(home: Path) -> str:
    """Where a test's credentials are; not there yet."""
    return str(home / "auth.json")


@pytest.fixture
def alice(guarded: Guarded, authfile: str) -> Access:
    """Access with alice's password at the registry, whose realm is trusted."""
    save_credentials(guarded.host, *ALICE, authfile)
    return Access(authfile=authfile, trust_realm=(guarded.realm_host,), timeout_s=5)


@pytest.fixture(scope="session")
def htpasswd(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    """A registry over TLS that asks for alice's password."""
    with registry(tmp_path_factory.mktemp("htpasswd") / "registry", password=ALICE[1], tls=True) as server:
        yield server


@pytest.fixture
def config(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The path of docker's config file; not there yet."""
    monkeypatch.setenv("DOCKER_CONFIG", str(tmp_path / "docker"))
    (tmp_path / "docker").mkdir()
    return tmp_path / "docker" / "config.json"


@pytest.fixture
def path(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A folder that comes first in PATH."""
    (tmp_path / "bin").mkdir()
    monkeypatch.setenv("PATH", f"{tmp_path / 'bin'}:{os.environ['PATH']}")
    return tmp_path / "bin"


@pytest.fixture
def keychain(path: Path, tmp_path: Path) -> Path:
    """What the credential helper `test` keeps; not there yet."""
    install(path, "test", HELPER.format(kept=str(tmp_path / "keychain.json")))
    return tmp_path / "keychain.json"


@pytest.fixture
def hurried() -> Iterator[None]:
    """As many attempts as always, and no waits between them."""
    with stamina.set_testing(True, attempts=ATTEMPTS):
        yield


@pytest.fixture
def certificate(tmp_path: Path) -> Path:
    """A certificate for 127.0.0.1 that no registry has."""
    return make_certificate(tmp_path)


@pytest.fixture(scope="session")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A model of 2 MB that no test changes."""
    return write_model(tmp_path_factory.mktemp("model") / "model", shards=2, size=1_000_000)


@pytest.fixture(scope="session")
def layout(model: Path) -> str:
    """A layout with that model as `v1`; no test changes it."""
    pack_model(model, model.parent / "layout")
    return f"oci:{model.parent}/layout:v1"
