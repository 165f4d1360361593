"""A registry that sends its clients to a token realm, and users with and without credentials."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.registry.credentials import save_credentials
from tests.fakes.registries import Registry, registry
from tests.fakes.token_server import TokenServer, token_server
from tests.registries import ALICE


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
