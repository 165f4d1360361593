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
from modelctl.core.types import digest_of
from modelctl.registry.credentials import save_credentials
from modelctl.registry.transport import Transport
from tests.conformance.stores import WEIGHTS, put, read
from tests.fakes.fault_proxy import Fault, fault_proxy, recorder
from tests.fakes.registries import Registry, free_port, server_context
from tests.registries import ALICE, ask, remote


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


@pytest.mark.parametrize("asked", ["3600", "9" * 500])
def test_a_registry_that_asks_for_too_long_is_given_up_at_once(asked: str) -> None:
    with recorder(503, headers={"Retry-After": asked}) as server:
        with pytest.raises(Unavailable, match=r"answered 503; it asks to be left alone for (3600|inf) s"):
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
        ("Wed, 21 Oct 2015 07:28:00 +9999999999999999999", None),
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


@pytest.mark.parametrize(
    ("registry", "url", "own"),
    [
        ("registry.test:443", "https://registry.test/v2/x", True),
        ("registry.test", "https://registry.test:443/v2/x", True),
        ("Registry.Test:5000", "https://registry.test:5000/v2/x", True),
        ("registry.test", "https://REGISTRY.test/v2/x", True),
        ("registry.test:443", "http://registry.test/v2/x", False),
        ("registry.test:443", "https://registry.test:80/v2/x", False),
        ("registry.test", "https://registry.test.evil.test/v2/x", False),
        ("registry.test", "https://registry.test@evil.test/v2/x", False),
        ("registry.test", r"https://evil.test\@registry.test/v2/x", False),
    ],
)
def test_an_origin_is_a_registrys_own_however_it_is_written(registry: str, url: str, own: bool) -> None:
    assert Transport(registry, Access()).is_own(url) is own


@pytest.mark.parametrize(
    "location",
    [
        "http://127.0.0.1:99999999/x",
        "http://127.0.0.1:x/",
        "http://a..b/x",
        "http://%s.test/x" % ("a" * 64),
        r"http://evil.test\@127.0.0.1/x",
        "/v2/up/\u00e9",
        "/v2/up/\x01",
    ],
)
def test_a_location_of_an_upload_that_is_no_url_is_refused(plain: Registry, repository: str, location: str) -> None:
    with fault_proxy(plain.host, Fault("^POST", "status", status=202, headers={"Location": location})) as proxy:
        with pytest.raises(BadAnswer, match=f"registry {proxy.host}.*\n.*not a URL"):
            put(remote(proxy.host, repository), WEIGHTS)


def test_a_next_page_that_is_no_url_is_refused() -> None:
    with recorder(200, body=b'{"tags": []}', headers={"Link": '<http://[>; rel="next"'}) as server:
        with pytest.raises(BadAnswer, match=f"{server.host}.*\n.*not a URL"):
            remote(server.host, "x").tags()


def test_what_is_written_may_be_redirected_at_home(plain: Registry, repository: str) -> None:
    with fault_proxy(plain.host) as proxy:
        proxy.faults.append(Fault("^POST", "redirect", headers={"Location": f"/v2/{repository}/blobs/uploads/"}))
        store = remote(proxy.host, repository)

        assert read(store, put(store, WEIGHTS)) == WEIGHTS


@pytest.mark.parametrize("status", [400, 401, 403, 404, 413, 503])
def test_an_error_names_the_repository_and_what_was_wanted_of_it(hurried: None, status: int) -> None:
    with recorder(status, headers={"WWW-Authenticate": "Basic"}) as server:
        store = remote(server.host, "models/q")
        with pytest.raises(ModelctlError) as missing:
            store.resolve("v1")
        with pytest.raises(ModelctlError) as sent:
            put(store, WEIGHTS)

    named = f"registry {server.host}"
    assert (missing.value.what, sent.value.what) == (
        f"{named}, manifest v1 in models/q",
        f"{named}, upload to models/q",
    )


@pytest.mark.parametrize(
    ("status", "hint"), [(404, "modelctl ls HOST/models/q"), (401, "modelctl login HOST -u USER"), (400, "")]
)
def test_what_is_not_there_comes_with_what_to_do_next(status: int, hint: str) -> None:
    with recorder(status, headers={"WWW-Authenticate": "Basic"}) as server, pytest.raises(ModelctlError) as caught:
        remote(server.host, "models/q").resolve("v1")

    assert caught.value.hint == hint.replace("HOST", server.host)


def test_an_upload_that_is_too_large_comes_with_what_to_do_next() -> None:
    with recorder(413) as server, pytest.raises(BadAnswer, match="try: have the limit on the size of a request raised"):
        put(remote(server.host, "models/q"), WEIGHTS)


def test_who_is_known_and_refused_is_not_told_to_log_in(authfile: str) -> None:
    with recorder(403, body=b"quota exceeded") as server:
        save_credentials(server.host, *ALICE, authfile)
        with pytest.raises(Denied, match="quota exceeded; credentials from") as caught:
            remote(server.host, "models/q", authfile=authfile).tags()

    assert caught.value.hint == ""


def test_a_file_of_credentials_that_is_not_there_is_named() -> None:
    with recorder(401, headers={"WWW-Authenticate": "Basic"}) as server:
        with pytest.raises(Denied, match=r"no credentials were found in /nowhere\.json, which is not there\n"):
            remote(server.host, "models/q", authfile="/nowhere.json").resolve("v1")


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


@pytest.mark.parametrize("name", ["v1", "sha256:" + "0" * 64])
def test_a_manifest_without_end_is_named(name: str) -> None:
    with recorder(200, headers={"Content-Length": str(1 << 40)}, body=b"x" * (5 << 20)) as server:
        with pytest.raises(BadAnswer, match=f"registry {server.host}, manifest {name}.*\n.*without end"):
            remote(server.host, "models/q").resolve(name)


@pytest.mark.parametrize(
    "headers",
    [
        {"Docker-Content-Digest": "sha256:zz", "Content-Length": "7"},
        {"Docker-Content-Digest": "sha512:" + "0" * 128, "Content-Length": "7"},
    ],
)
def test_a_manifest_whose_digest_is_none_is_named(headers: dict[str, str]) -> None:
    with recorder(200, headers=headers, body=b"{} ") as server:
        with pytest.raises(BadAnswer, match=f"manifest v1 in {server.host}/models/q\n.*Content-Digest is 'sha"):
            remote(server.host, "models/q").resolve("v1")


@pytest.mark.parametrize("length", ["\u00b2", "9" * 5000])
def test_a_manifest_whose_length_is_no_number_is_read(length: str) -> None:
    with fault_proxy("", Fault("^HEAD", "status", status=200, times=1 << 30)) as server:
        server.faults[0].headers = {"Docker-Content-Digest": "sha256:" + "0" * 64, "Content-Length": length}
        server.faults.append(Fault("^GET", "status", status=200, body=b"{}"))
        found = remote(server.host, "models/q").resolve("v1")

    assert (found.digest, found.size) == (digest_of(b"{}"), 2)


@pytest.mark.parametrize("body", [b"[" * 100_000, b'{"tags": "v1"}', b"<html>"])
def test_a_list_of_tags_that_is_none_is_named(body: bytes) -> None:
    with recorder(200, body=body) as server, pytest.raises(BadAnswer, match=f"tags of {server.host}/models/q"):
        remote(server.host, "models/q").tags()


def test_an_answer_that_breaks_off_is_no_answer(plain: Registry) -> None:
    with fault_proxy(plain.host, Fault("", "cut-answer", at=1)) as proxy:
        transport = Transport(proxy.host, Access())
        with pytest.raises(Unavailable, match="broke off"):
            read_limited(transport.request("GET", "/v2/", scope=""), "a test")


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
