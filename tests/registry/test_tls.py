"""Whose certificates are believed, which are shown, and where there are none."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.core.errors import BadAnswer, Denied, ModelctlError, NotFound, Unavailable
from modelctl.registry.transport import Transport
from tests.conformance.stores import WEIGHTS, put, read
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy
from tests.fakes.registries import Registry, server_context
from tests.registries import ask, remote


def test_a_certificate_that_nobody_vouches_for_is_refused(htpasswd: Registry) -> None:
    with pytest.raises(BadAnswer, match=r"TLS: .*\n  try: --ca-file"):
        ask(htpasswd.host)


def test_another_ca_is_refused(htpasswd: Registry, certificate: Path) -> None:
    with pytest.raises(BadAnswer, match="TLS: "):
        ask(htpasswd.host, ca_file=str(certificate))


def test_a_ca_of_the_users_is_believed(htpasswd: Registry) -> None:
    with pytest.raises(Denied):  # by the registry itself, which wants a password
        ask(htpasswd.host, ca_file=str(htpasswd.ca_file))


def test_told_so_any_certificate_is_taken(htpasswd: Registry) -> None:
    with pytest.raises(Denied):
        ask(htpasswd.host, insecure=True)


@pytest.mark.parametrize("flag", ["ca_file", "client_cert"])
def test_a_certificate_that_is_not_there_is_named(htpasswd: Registry, flag: str) -> None:
    with pytest.raises(NotFound, match="/nowhere"):
        ask(htpasswd.host, **{flag: "/nowhere.pem"})


@pytest.mark.parametrize("flag", ["ca_file", "client_cert"])
def test_a_certificate_that_is_none_is_named(htpasswd: Registry, tmp_path: Path, flag: str) -> None:
    (tmp_path / "garbage.pem").write_text("garbage")

    with pytest.raises(ModelctlError, match=r"garbage\.pem"):
        ask(htpasswd.host, **{flag: str(tmp_path / "garbage.pem")})


@pytest.fixture
def demanding(plain: Registry, certificate: Path) -> Iterator[Proxy]:
    """A registry that wants a client certificate, which is its own one too."""
    context = server_context(certificate.parent)
    context.verify_mode = ssl.CERT_REQUIRED
    context.load_verify_locations(certificate)
    with fault_proxy(plain.host, tls=context) as proxy:
        yield proxy


def test_a_client_certificate_is_shown(demanding: Proxy, certificate: Path) -> None:
    key = str(certificate.with_name("tls.key"))

    assert ask(demanding.host, ca_file=str(certificate), client_cert=str(certificate), client_key=key) == b"{}"


def test_a_client_certificate_and_its_key_may_be_one_file(demanding: Proxy, certificate: Path) -> None:
    both = certificate.with_name("both.pem")
    both.write_bytes(certificate.read_bytes() + certificate.with_name("tls.key").read_bytes())

    assert ask(demanding.host, ca_file=str(certificate), client_cert=str(both)) == b"{}"


def test_without_a_client_certificate_it_is_one_error(demanding: Proxy, certificate: Path, hurried: None) -> None:
    with pytest.raises(Unavailable):
        ask(demanding.host, ca_file=str(certificate))


def test_a_blob_goes_through_tls_with_a_client_certificate(
    demanding: Proxy, certificate: Path, repository: str
) -> None:
    key = str(certificate.with_name("tls.key"))
    store = remote(demanding.host, repository, ca_file=str(certificate), client_cert=str(certificate), client_key=key)

    assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_on_loopback_plain_http_is_found_out(plain: Registry) -> None:
    assert Transport(plain.host, Access()).origin == f"http://{plain.host}"


def test_on_loopback_tls_is_found_out(htpasswd: Registry) -> None:
    assert Transport(htpasswd.host, Access()).origin == f"https://{htpasswd.host}"


@pytest.mark.parametrize("host", ["registry.example.com", "registry.example.com:5000", "192.0.2.1:5000"])
def test_elsewhere_it_is_tls(host: str) -> None:
    assert Transport(host, Access()).origin == f"https://{host}"


def test_elsewhere_plain_http_has_to_be_asked_for() -> None:
    assert Transport("registry.example.com", Access(plain_http=True)).origin == "http://registry.example.com"


def test_docker_hub_answers_at_another_host() -> None:
    assert Transport("docker.io", Access()).origin == "https://registry-1.docker.io"


def test_an_upload_that_is_to_go_on_without_tls_is_refused(plain: Registry, certificate: Path, repository: str) -> None:
    with fault_proxy(plain.host) as other:
        begun = Fault("^POST", "status", status=202, headers={"Location": f"http://{other.host}/upload"})
        with fault_proxy(plain.host, begun, tls=server_context(certificate.parent)) as proxy:
            with pytest.raises(BadAnswer, match="it leads from HTTPS to http:"):
                put(remote(proxy.host, repository, ca_file=str(certificate)), WEIGHTS)

        assert other.requests == []
