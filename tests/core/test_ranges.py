import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from modelctl.core.errors import BadAnswer, ChecksumMismatch, Denied, Unavailable
from modelctl.core.http import Pools
from modelctl.core.ranges import RangeBlob
from modelctl.core.retry import ATTEMPTS
from tests.fakes.fault_proxy import Fault as Strike
from tests.fakes.fault_proxy import fault_proxy
from tests.fakes.forward_proxy import forward_proxy
from tests.fakes.oss import Fault, Oss, oss
from tests.fakes.registries import make_certificate, server_context
from tests.models import noise

DATA = noise(3_000_000, "ranges")
SILENCE_S = 0.5


@pytest.fixture
def server() -> Iterator[Oss]:
    with oss(public={"bucket"}) as server:
        server.put("bucket", "file", DATA)
        yield server


def blob_at(host: str, size: int = len(DATA)) -> RangeBlob:
    pools = Pools(SILENCE_S)
    url = f"http://{host}/bucket/file"
    return RangeBlob("file 'x'", size, lambda range_: pools.send("it", "GET", url, {"Range": range_}), hint="log in")


def host_of(server: Oss) -> str:
    return server.url.removeprefix("http://")


def read(blob: RangeBlob, offset: int = 0, size: int = len(DATA)) -> bytes:
    data = bytearray(size)
    blob.read_into(offset, memoryview(data))
    return bytes(data)


class TestReading:
    def test_a_range_has_the_bytes_from_there(self, server: Oss) -> None:
        assert read(blob_at(host_of(server)), 1_000_001, 500_000) == DATA[1_000_001:1_500_001]

    def test_a_read_is_one_request_and_a_connection_serves_the_next(self, server: Oss) -> None:
        blob = blob_at(host_of(server))
        read(blob)
        read(blob, 5, 5)
        assert len(server.requests) == 2

    def test_reading_nothing_asks_nothing(self, server: Oss) -> None:
        assert (read(blob_at(host_of(server)), 7, 0), server.requests) == (b"", [])

    def test_a_read_beyond_the_end_is_refused_unasked(self, server: Oss) -> None:
        with pytest.raises(BadAnswer, match="3000000 bytes; 3000001 were expected"):
            read(blob_at(host_of(server)), 1, len(DATA))
        assert server.requests == []


class TestGoingOn:
    @pytest.mark.parametrize("at", [0, 1, 1_234_567, len(DATA) - 1])
    def test_after_a_cut_only_what_is_missing_is_asked_for(self, server: Oss, at: int) -> None:
        server.faults = [Fault("file", cut=at)]
        assert read(blob_at(host_of(server))) == DATA
        assert server.sent == len(DATA)

    def test_after_a_stall_only_what_was_lost_is_sent_twice(self, server: Oss) -> None:
        server.faults = [Fault("file", stall=1_234_567)]
        assert read(blob_at(host_of(server))) == DATA
        assert server.sent <= len(DATA) + (256 << 10)

    def test_busy_answers_are_waited_out_as_long_as_they_ask(self, server: Oss) -> None:
        server.faults = [Fault("file", status=503, headers={"Retry-After": "1"}), Fault("file", status=429)]
        begun = time.monotonic()
        assert read(blob_at(host_of(server))) == DATA
        assert time.monotonic() - begun >= 1.0

    def test_a_read_is_given_up_after_some_attempts(self, server: Oss) -> None:
        server.faults = [Fault("file", status=503, headers={"Retry-After": "0"}, times=1000)]
        with pytest.raises(Unavailable, match="it answered 503"):
            read(blob_at(host_of(server)))
        assert len(server.requests) == ATTEMPTS

    def test_attempts_that_bring_bytes_do_not_count(self, server: Oss) -> None:
        server.faults = [Fault("file", cut=300_000, times=ATTEMPTS + 2)]
        assert read(blob_at(host_of(server))) == DATA
        assert len(server.requests) == ATTEMPTS + 3

    def test_who_asks_for_too_long_a_wait_is_not_waited_for(self, server: Oss) -> None:
        server.faults = [Fault("file", status=503, headers={"Retry-After": "3600"})]
        with pytest.raises(Unavailable):
            read(blob_at(host_of(server)))

    def test_nobody_there_is_unavailable(self, server: Oss) -> None:
        blob = blob_at("127.0.0.1:1")
        threading.Timer(0.5, blob.close).start()
        with pytest.raises(Unavailable, match="refused"):
            read(blob)


class TestRefusals:
    @pytest.mark.parametrize("status", [404, 410, 412, 416])
    def test_what_is_not_there_any_more_has_changed(self, server: Oss, status: int) -> None:
        server.faults = [Fault("file", cut=1000), Fault("file", status=status)]
        with pytest.raises(ChecksumMismatch, match=f"file 'x' changed while it was read\n.*answered {status}"):
            read(blob_at(host_of(server)))

    @pytest.mark.parametrize("status", [401, 403])
    def test_a_refusal_says_what_to_do(self, server: Oss, status: int) -> None:
        server.faults = [Fault("file", status=status, times=9)]
        with pytest.raises(Denied, match="try: log in"):
            read(blob_at(host_of(server)))
        assert len(server.requests) == 1

    @pytest.mark.parametrize(
        "strike",
        [
            Strike("GET", "whole"),
            Strike("GET", "wrong-range"),
            Strike("GET", "short", at=5),
            Strike("GET", "endless"),
            Strike("GET", "redirect", headers={"Location": "/elsewhere"}),
            Strike("GET", "status", status=204),
            Strike("GET", "status", status=206),
            Strike("GET", "status", status=400),
        ],
        ids=lambda strike: f"{strike.kind}-{strike.status}",
    )
    def test_any_other_answer_is_bad(self, server: Oss, strike: Strike) -> None:
        with fault_proxy(host_of(server), strike) as proxy, pytest.raises(BadAnswer, match="file 'x'"):
            read(blob_at(proxy.host))

    def test_a_file_of_another_size_is_bad(self, server: Oss) -> None:
        with pytest.raises(BadAnswer, match="bytes 0-9/3000000"):
            read(blob_at(host_of(server), size=10), size=10)

    def test_encoded_bytes_are_bad(self, server: Oss) -> None:
        encoded = {"Content-Range": f"bytes 0-0/{len(DATA)}", "Content-Encoding": "gzip"}
        strike = Strike("GET", "status", status=206, headers=encoded, body=b"x")
        with fault_proxy(host_of(server), strike) as proxy, pytest.raises(BadAnswer, match="gzip"):
            read(blob_at(proxy.host), size=1)


class TestTlsProxy:
    """A proxy that is itself spoken to over TLS."""

    @pytest.mark.parametrize("scheme", ["http", "https"])
    @pytest.mark.parametrize("trust", ["ca_file", "insecure"])
    def test_a_file_is_read_through_it(
        self, server: Oss, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, scheme: str, trust: str
    ) -> None:
        certificate = make_certificate(tmp_path)
        context = server_context(tmp_path)
        pools = Pools(5, ca_file=str(certificate)) if trust == "ca_file" else Pools(5, insecure=True)
        url = f"{scheme}://127.0.0.1/bucket/file"
        with (
            fault_proxy(host_of(server), tls=context) as secure,
            forward_proxy(secure.host if scheme == "https" else host_of(server), tls=context) as proxy,
        ):
            monkeypatch.setenv(f"{scheme}_proxy", proxy.url)
            blob = RangeBlob("x", len(DATA), lambda range_: pools.send("x", "GET", url, {"Range": range_}))
            assert read(blob) == DATA
            assert len(proxy.requests) == 1


class TestClosing:
    def test_afterwards_nothing_is_asked(self, server: Oss) -> None:
        blob = blob_at(host_of(server))
        blob.close()
        with pytest.raises(BadAnswer, match="closed while it was read"):
            read(blob)
        assert server.requests == []

    def test_it_ends_a_read_that_stalls(self, server: Oss) -> None:
        server.faults = [Fault("file", stall=1000, times=99)]
        pools = Pools(60)
        blob = RangeBlob(
            "x", len(DATA), lambda range_: pools.send("x", "GET", f"{server.url}/bucket/file", {"Range": range_})
        )
        errors: list[BaseException] = []

        def attempt() -> None:
            try:
                read(blob)
            except Unavailable as error:
                errors.append(error)

        thread = threading.Thread(target=attempt)
        thread.start()
        while server.sent < 1000:
            time.sleep(0.01)
        blob.close()
        thread.join(5)
        assert (thread.is_alive(), len(errors)) == (False, 1)

    def test_it_ends_a_wait_before_the_next_attempt(self, server: Oss) -> None:
        server.faults = [Fault("file", status=503, headers={"Retry-After": "50"})]
        blob = blob_at(host_of(server))
        threading.Timer(0.3, blob.close).start()
        begun = time.monotonic()
        with pytest.raises(Unavailable):
            read(blob)
        assert time.monotonic() - begun < 10
