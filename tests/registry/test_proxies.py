"""Registries behind the proxy that the environment names. `registry.test` exists only for the proxy."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.core.errors import BadAnswer, ModelctlError, UsageProblem
from modelctl.registry.remote import RemoteStore
from modelctl.registry.transport import Transport
from tests.conformance.stores import WEIGHTS, put, read
from tests.fakes.fault_proxy import Proxy, fault_proxy
from tests.fakes.forward_proxy import forward_proxy
from tests.fakes.registries import Registry, server_context
from tests.registries import ask, remote

HOST = "registry.test:5000"


pytestmark = pytest.mark.usefixtures("hurried")


@pytest.fixture
def tls(plain: Registry, certificate: Path) -> Iterator[tuple[Proxy, Path]]:
    """The registry over TLS, and its certificate."""
    with fault_proxy(plain.host, tls=server_context(certificate.parent)) as proxy:
        yield proxy, certificate


def plain_store(repository: str) -> RemoteStore:
    return remote(HOST, repository, plain_http=True, timeout_s=5)


@pytest.mark.parametrize("variable", ["http_proxy", "HTTP_PROXY"])
def test_a_blob_goes_through_the_proxy_over_http(
    plain: Registry, repository: str, monkeypatch: pytest.MonkeyPatch, variable: str
) -> None:
    with forward_proxy(plain.host) as proxy:
        monkeypatch.setenv(variable, proxy.url)
        store = plain_store(repository)

        assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_a_blob_goes_through_the_proxy_over_tls(
    tls: tuple[Proxy, Path], repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls
    with forward_proxy(server.host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        store = remote(HOST, repository, ca_file=str(certificate), timeout_s=5)

        assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_the_proxy_sees_of_tls_only_where_it_goes(
    tls: tuple[Proxy, Path], repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward_proxy(tls[0].host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        put(remote(HOST, repository, insecure=True, timeout_s=5), WEIGHTS)

        assert set(proxy.requests) == {f"CONNECT {HOST}"}


def test_behind_a_proxy_a_certificate_for_another_host_is_refused(
    tls: tuple[Proxy, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls
    with forward_proxy(server.host) as proxy:
        monkeypatch.setenv("HTTPS_PROXY", proxy.url)
        with pytest.raises(BadAnswer, match="Hostname mismatch"):
            ask("other.test:5000", ca_file=str(certificate))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_a_proxy_gets_the_password_of_its_url(
    plain: Registry, tls: tuple[Proxy, Path], repository: str, monkeypatch: pytest.MonkeyPatch, scheme: str
) -> None:
    server = plain.host if scheme == "http" else tls[0].host
    with forward_proxy(server, password="Basic YWxpY2U6czNAY3JldA==") as proxy:
        monkeypatch.setenv(f"{scheme}_proxy", proxy.url.replace("//", "//alice:s3%40cret@"))
        store = remote(HOST, repository, plain_http=scheme == "http", insecure=True, timeout_s=5)

        assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_no_error_shows_the_password_of_a_proxy(
    plain: Registry, repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    with forward_proxy(plain.host, password="Basic x") as proxy:
        monkeypatch.setenv("http_proxy", proxy.url.replace("//", "//alice:s3cret@"))
        with pytest.raises(ModelctlError, match=r"\A(?!(.|\n)*s3cret)(.|\n)*407"):
            plain_store(repository).tags()


def test_a_proxy_over_tls_is_believed_by_the_users_ca(
    plain: Registry, tls: tuple[Proxy, Path], repository: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    server, certificate = tls
    manifest = put(remote(plain.host, repository), WEIGHTS)
    with forward_proxy(server.host, tls=server_context(certificate.parent)) as proxy:
        monkeypatch.setenv("https_proxy", proxy.url)
        store = remote(HOST, repository, ca_file=str(certificate), timeout_s=5)

        assert read(store, manifest) == WEIGHTS
        assert set(proxy.requests) == {f"CONNECT {HOST}"}


@pytest.mark.parametrize("plain_http", [False, True])
def test_what_cannot_be_sent_through_a_proxy_over_tls_is_told_by_its_name(
    monkeypatch: pytest.MonkeyPatch, plain_http: bool
) -> None:
    scheme = "http" if plain_http else "https"
    monkeypatch.setenv(f"{scheme}_proxy", "https://alice:s3cret@proxy.test:3128")
    transport = Transport(HOST, Access(plain_http=plain_http))
    told = rf"proxy https://proxy\.test:3128\n.*over TLS\n.*{scheme}_proxy=http://\.\.\., or no_proxy=registry\.test$"
    with pytest.raises(UsageProblem, match=told):
        transport.connect(transport.url("/v2/"))


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_the_port_of_a_proxy_is_80_where_none_is_said(monkeypatch: pytest.MonkeyPatch, scheme: str) -> None:
    monkeypatch.setenv(f"{scheme}_proxy", "http://proxy.test")
    connection = Transport(HOST, Access()).connect(f"{scheme}://{HOST}/v2/")
    assert (connection.host, connection.port) == ("proxy.test", 80)


@pytest.mark.parametrize("exception", ["127.0.0.1", "*", "PLAIN"])
def test_a_registry_that_is_excepted_is_reached_directly(
    plain: Registry, repository: str, monkeypatch: pytest.MonkeyPatch, exception: str
) -> None:
    with forward_proxy(plain.host) as proxy:
        monkeypatch.setenv("http_proxy", proxy.url)
        monkeypatch.setenv("no_proxy", exception.replace("PLAIN", plain.host))
        put(remote(plain.host, repository), WEIGHTS)

        assert proxy.requests == []


def test_a_proxy_that_is_not_there_is_one_error(repository: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    with pytest.raises(ModelctlError, match="refused"):
        put(plain_store(repository), WEIGHTS)
