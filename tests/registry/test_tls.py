"""Whose certificates are believed, which are shown, and where there are none."""

from __future__ import annotations

import ssl
from collections.abc import Iterator
from pathlib import Path

import pytest
from cryptography.hazmat.primitives import serialization

from modelctl.core.access import Access
from modelctl.core.errors import BadAnswer, Denied, NotFound, Unavailable, UsageProblem
from modelctl.registry.transport import Transport
from tests.conformance.stores import WEIGHTS, put, read
from tests.fakes.fault_proxy import Fault, Proxy, fault_proxy, recorder
from tests.fakes.registries import Registry, make_certificate, registry, server_context
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


@pytest.mark.parametrize("address", ["localhost", "127.0.0.2"])
def test_a_certificate_for_another_host_needs_another_name(tmp_path: Path, address: str) -> None:
    listening = "127.0.0.1" if address == "localhost" else address
    with registry(tmp_path / "registry", tls=True, address=listening) as server:
        port = server.host.rpartition(":")[2]
        with pytest.raises(BadAnswer, match=r"TLS: .* mismatch.*\n  try: name the host as its certificate does$"):
            ask(f"{address}:{port}", ca_file=str(server.ca_file))


def test_a_certificate_that_has_ended_is_to_be_renewed(tmp_path: Path) -> None:
    ended = make_certificate(tmp_path, days=-1)
    with recorder(tls=server_context(tmp_path)) as server:
        with pytest.raises(BadAnswer, match=r"TLS: .*expired.*\n  try: renew the certificate"):
            ask(server.host, ca_file=str(ended))


FILES = {
    "CA file": {"ca_file": "x"},
    "client certificate": {"ca_file": "tls.pem", "client_cert": "x", "client_key": "tls.key"},
    "client key": {"ca_file": "tls.pem", "client_cert": "tls.pem", "client_key": "x"},
}


@pytest.mark.parametrize("title", FILES)
def test_a_file_of_tls_that_is_not_there_is_named(htpasswd: Registry, certificate: Path, title: str) -> None:
    files = {flag: str(certificate.with_name(name)) for flag, name in FILES[title].items()}

    with pytest.raises(NotFound, match=f"{title} {certificate.with_name('x')}"):
        ask(htpasswd.host, **files)


@pytest.mark.parametrize(
    "content", [b"", b"garbage", b"-----BEGIN CERTIFICATE-----\nAAAA\n-----END CERTIFICATE-----\n"]
)
@pytest.mark.parametrize("title", FILES)
def test_a_file_of_tls_that_is_none_is_named(htpasswd: Registry, certificate: Path, title: str, content: bytes) -> None:
    certificate.with_name("x").write_bytes(content)
    files = {flag: str(certificate.with_name(name)) for flag, name in FILES[title].items()}

    with pytest.raises(
        UsageProblem, match=rf"{title} {certificate.with_name('x')}\n  why: it holds no valid .* in PEM"
    ):
        ask(htpasswd.host, **files)


def test_a_client_certificate_without_its_key_asks_for_it(htpasswd: Registry, certificate: Path) -> None:
    with pytest.raises(UsageProblem, match=r"client key .*/tls\.pem\n(.|\n)*--client-key names the file of its key"):
        ask(htpasswd.host, client_cert=str(certificate))


def test_the_key_of_another_certificate_is_named(htpasswd: Registry, certificate: Path, tmp_path: Path) -> None:
    (tmp_path / "other").mkdir()
    other = make_certificate(tmp_path / "other").with_name("tls.key")

    with pytest.raises(UsageProblem, match=rf"client key {other}\n  why: it is not the key of {certificate}"):
        ask(htpasswd.host, client_cert=str(certificate), client_key=str(other))


def test_a_key_alone_is_refused(htpasswd: Registry) -> None:
    with pytest.raises(UsageProblem, match=r"client key /tls\.key\n(.|\n)*--client-cert"):
        ask(htpasswd.host, client_key="/tls.key")


def test_a_key_with_a_pass_phrase_is_refused_and_nobody_asked(
    htpasswd: Registry, certificate: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    key = certificate.with_name("tls.key")
    plain = serialization.load_pem_private_key(key.read_bytes(), None)
    locked = serialization.BestAvailableEncryption(b"s3cret")
    key.write_bytes(plain.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, locked))
    with pytest.raises(UsageProblem, match=rf"client key {key}\n  why: it is encrypted"):
        ask(htpasswd.host, client_cert=str(certificate), client_key=str(key))

    assert capfd.readouterr() == ("", "")


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
