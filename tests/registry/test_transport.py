"""How registries are reached: redirects, busy answers, TLS, plain HTTP; and what an error tells."""

from __future__ import annotations

import datetime
from email.utils import format_datetime
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.core.errors import BadAnswer, Denied, ModelctlError, NotFound, Unavailable
from modelctl.core.http import drain, read_limited, redacted
from modelctl.core.retry import ATTEMPTS, retry_after
from modelctl.registry.transport import Transport
from tests.conformance.stores import WEIGHTS, put, read
from tests.fakes.fault_proxy import Fault, fault_proxy, recorder
from tests.fakes.registries import Registry, free_port, server_context
from tests.registries import ask, remote


def answering(status: int, **headers: str) -> Fault:
    return Fault("", "status", status=status, headers={name.replace("_", "-"): v for name, v in headers.items()})


@pytest.mark.parametrize("status", [408, 425, 429, 500, 502, 503, 504])
def test_a_busy_registry_is_asked_again(plain: Registry, hurried: None, status: int) -> None:
    with fault_proxy(plain.host, answering(status)) as proxy:
        ask(proxy.host)

        assert len(proxy.requests) == 2


@pytest.mark.parametrize("status", [400, 403, 404, 405, 409, 418, 501])
def test_an_answer_that_means_it_is_not_asked_for_again(plain: Registry, hurried: None, status: int) -> None:
    with fault_proxy(plain.host, answering(status)) as proxy:
        with pytest.raises(ModelctlError, match=f"it answered {status}"):
            ask(proxy.host)

        assert len(proxy.requests) == 1


@pytest.mark.parametrize(("status", "error"), [(403, Denied), (404, NotFound), (503, Unavailable), (418, BadAnswer)])
def test_an_answer_becomes_the_error_that_it_means(hurried: None, status: int, error: type[ModelctlError]) -> None:
    with recorder(status) as server, pytest.raises(error) as caught:
        ask(server.host)

    assert type(caught.value) is error


def test_a_registry_that_stays_busy_is_given_up(hurried: None) -> None:
    with recorder(503) as server:
        with pytest.raises(Unavailable, match="it answered 503"):
            ask(server.host)

        assert len(server.requests) == ATTEMPTS


@pytest.mark.parametrize("form", ["1", "date"])
def test_a_registry_is_left_alone_as_long_as_it_asks(plain: Registry, form: str) -> None:
    later = datetime.datetime.now(tz=datetime.UTC) + datetime.timedelta(seconds=1)
    wait = format_datetime(later, usegmt=True) if form == "date" else form
    with fault_proxy(plain.host, answering(429, Retry_After=wait)) as proxy:
        ask(proxy.host)

        assert len(proxy.requests) == 2


def test_a_registry_that_asks_for_too_long_is_given_up_at_once() -> None:
    with recorder(503, headers={"Retry-After": "3600"}) as server:
        with pytest.raises(Unavailable):
            ask(server.host)

        assert len(server.requests) == 1


@pytest.mark.parametrize(
    ("text", "seconds"),
    [
        ("", None),
        ("7", 7.0),
        (" 7 ", 7.0),
        ("-7", None),
        ("soon", None),
        ("\u00b2", None),
        ("Wed, 21 Oct 2015 07:28:00 GMT", 0.0),
        ("Wed, 21 Oct 2015 07:28:00 -0000", 0.0),
        ("Wed, 99 Oct 2015", None),
    ],
)
def test_a_retry_after_is_seconds_or_a_date(text: str, seconds: float | None) -> None:
    assert retry_after({"Retry-After": text}) == seconds


def test_a_registry_that_does_not_listen_is_one_error(hurried: None) -> None:
    with pytest.raises(Unavailable, match="Connection refused"):
        ask(f"127.0.0.1:{free_port()}")


def test_a_registry_that_has_no_address_is_one_error(hurried: None) -> None:
    with pytest.raises(Unavailable, match=r"registry\.invalid"):
        ask("registry.invalid")


def test_a_registry_that_says_nothing_is_given_up(plain: Registry, hurried: None) -> None:
    with fault_proxy(plain.host, Fault("", "stall-request", times=99)) as proxy:
        with pytest.raises(Unavailable, match="timed out"):
            ask(proxy.host, timeout_s=0.3)

        assert len(proxy.requests) == ATTEMPTS


def test_a_redirect_is_followed(plain: Registry) -> None:
    with fault_proxy(plain.host, Fault("", "redirect", headers={"Location": f"http://{plain.host}/v2/"})) as proxy:
        assert ask(proxy.host) == b"{}"


def test_redirects_without_end_are_refused(plain: Registry) -> None:
    with (
        fault_proxy(plain.host, Fault("", "redirect", headers={"Location": "/v2/"}, times=99)) as proxy,
        pytest.raises(BadAnswer, match="without end"),
    ):
        ask(proxy.host)


@pytest.mark.parametrize("location", ["ftp://127.0.0.1/", "file:///etc/passwd", "http://["])
def test_a_redirect_to_what_is_not_http_is_refused(plain: Registry, location: str) -> None:
    with (
        fault_proxy(plain.host, Fault("", "redirect", headers={"Location": location})) as proxy,
        pytest.raises(BadAnswer, match=r"it leads from HTTP to|not a URL"),
    ):
        ask(proxy.host)


def test_a_redirect_from_https_to_http_is_not_followed(certificate: Path) -> None:
    with recorder() as other:
        location = {"Location": f"http://{other.host}/"}
        with (
            recorder(307, headers=location, tls=server_context(certificate.parent)) as server,
            pytest.raises(BadAnswer, match="it leads from HTTPS to http:"),
        ):
            ask(server.host, ca_file=str(certificate))

        assert other.requests == []


@pytest.mark.parametrize("method", ["PUT", "POST", "DELETE"])
def test_what_is_written_is_not_redirected_elsewhere(method: str) -> None:
    with recorder() as other, recorder(307, headers={"Location": f"http://{other.host}/"}) as server:
        with pytest.raises(BadAnswer, match=f"it redirects a {method}"):
            ask(server.host, method=method, body=b"secret")

        assert (other.requests, other.kept) == ([], 0)


def test_what_is_written_may_be_redirected_at_home(plain: Registry, repository: str) -> None:
    with fault_proxy(plain.host) as proxy:
        proxy.faults.append(Fault("^POST", "redirect", headers={"Location": f"/v2/{repository}/blobs/uploads/"}))
        store = remote(proxy.host, repository)

        assert read(store, put(store, WEIGHTS)) == WEIGHTS


def test_an_error_quotes_what_the_registry_said(hurried: None) -> None:
    with recorder(418, body=b'{"errors":\n\t[{"code": "TEAPOT"}]}') as server:
        with pytest.raises(BadAnswer, match=r'it answered 418: {"errors": \[{"code": "TEAPOT"}\]}'):
            ask(server.host)


@pytest.mark.parametrize(("status", "error"), [(404, NotFound), (418, BadAnswer)])
def test_of_an_error_without_end_only_the_beginning_is_read(status: int, error: type[ModelctlError]) -> None:
    with recorder(status, body=b"x" * (1 << 20)) as server, pytest.raises(error) as caught:
        ask(server.host)

    assert len(str(caught.value)) < 1000


def test_an_answer_that_is_too_long_is_refused(plain: Registry) -> None:
    with recorder(200, body=b"x" * (1 << 20)) as server, pytest.raises(BadAnswer, match="without end"):
        ask(server.host)


def test_an_answer_that_breaks_off_is_no_answer(plain: Registry) -> None:
    with fault_proxy(plain.host, Fault("", "cut-answer", at=1)) as proxy:
        transport = Transport(proxy.host, Access())
        with pytest.raises(Unavailable, match="broke off"):
            read_limited(transport.request("GET", "/v2/", scope=""))


def test_what_is_only_drained_may_break_off(plain: Registry) -> None:
    with fault_proxy(plain.host, Fault("", "cut-answer", at=1)) as proxy:
        assert drain(Transport(proxy.host, Access()).request("GET", "/v2/", scope="")) == b"{"


@pytest.mark.parametrize(
    ("url", "shown"),
    [
        ("https://alice:s3cret@host:1/a/b?token=s3cret", "https://host:1/a/b"),
        ("https://host/a", "https://host/a"),
        ("blob sha256:0", "blob sha256:0"),
    ],
)
def test_what_may_be_secret_is_left_out_of_a_url(url: str, shown: str) -> None:
    assert redacted(url) == shown


def test_no_error_shows_the_query_of_a_redirect(plain: Registry) -> None:
    with recorder() as other:
        signed = {"Location": f"http://{other.host}/x?signature=s3cret"}
        with (
            fault_proxy(plain.host, Fault("", "redirect", headers=signed)) as proxy,
            pytest.raises(NotFound, match=r"\A(?!(.|\n)*s3cret)"),
        ):
            ask(proxy.host)
