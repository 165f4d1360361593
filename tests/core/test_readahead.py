import itertools
import threading
import time
from collections.abc import Iterator
from contextlib import closing

import pytest
import urllib3

from modelctl.core.chunks import BUFFER, CHUNK, feed
from modelctl.core.errors import ChecksumMismatch, Unavailable
from modelctl.core.http import Pools
from modelctl.core.ranges import RangeBlob, Stream
from modelctl.core.readahead import ReadAhead
from tests.fakes.memory import MemoryBlob
from tests.fakes.oss import Fault, Oss, oss
from tests.models import noise

PART = 2 * BUFFER
SIZE = 5 * PART + 12_345
DATA = noise(SIZE, "readahead")


@pytest.fixture
def blob() -> MemoryBlob:
    return MemoryBlob(DATA)


@pytest.fixture
def server() -> Iterator[Oss]:
    with oss(public={"bucket"}) as server:
        server.put("bucket", "file", DATA)
        yield server


def remote(server: Oss, size: int = SIZE, timeout_s: float = 60) -> RangeBlob:
    pools = Pools(timeout_s)
    return RangeBlob("x", size, lambda range_: pools.send("x", "GET", f"{server.url}/bucket/file", {"Range": range_}))


def fed(blob: ReadAhead, start: int = 0) -> bytes:
    pieces: list[bytes] = []
    feed(blob, 0, blob.size, [lambda data: pieces.append(bytes(data))], lambda size: None, start=start)
    return b"".join(pieces)


def threads() -> int:
    return sum(thread.name == "read-ahead" for thread in threading.enumerate())


class TestInOrder:
    @pytest.mark.parametrize("connections", [1, 2, 4, 16])
    def test_the_bytes_are_those_of_the_blob(self, blob: MemoryBlob, connections: int) -> None:
        ahead = ReadAhead(blob, PART, connections)
        assert fed(ahead) == DATA
        ahead.close()

    @pytest.mark.parametrize("size", [1, 1000, BUFFER - 1, 3 * PART, SIZE])
    def test_reads_of_any_length_may_cross_parts(self, blob: MemoryBlob, size: int) -> None:
        ahead = ReadAhead(blob, PART, 3)
        count = SIZE // size if size > 1000 else 3000
        data = bytearray(count * size)
        for at in range(0, len(data), size):
            ahead.read_into(at, memoryview(data)[at : at + size])
        ahead.close()
        assert data == DATA[: len(data)]

    @pytest.mark.parametrize("size", [1000, 999_999, PART, 2 * PART])
    def test_bytes_may_be_lent_in_any_length(self, blob: MemoryBlob, size: int) -> None:
        ahead = ReadAhead(blob, PART, 3)
        found = b"".join(bytes(ahead.lend(at, min(size, SIZE - at))) for at in range(0, SIZE, size))
        ahead.close()
        assert found == DATA

    def test_each_part_is_read_once(self, blob: MemoryBlob) -> None:
        ahead = ReadAhead(blob, PART, 3)
        fed(ahead)
        ahead.close()
        assert sorted(blob.reads) == [(at, min(PART, SIZE - at)) for at in range(0, SIZE, PART)]

    def test_it_begins_where_the_first_read_does(self, blob: MemoryBlob) -> None:
        ahead = ReadAhead(blob, PART, 3)
        assert fed(ahead, start=CHUNK) == DATA[CHUNK:]
        ahead.close()
        assert min(blob.reads)[0] == CHUNK

    def test_no_more_is_read_than_there_are_buffers(self, blob: MemoryBlob) -> None:
        ahead = ReadAhead(blob, PART, 2)
        ahead.read_into(0, memoryview(bytearray(10)))
        time.sleep(0.2)
        assert sorted(blob.reads) == [(0, PART), (PART, PART)]
        ahead.close()

    def test_a_file_of_one_part_needs_no_thread(self) -> None:
        ahead = ReadAhead(MemoryBlob(DATA[:PART]), PART, 4)
        assert (fed(ahead), threads()) == (DATA[:PART], 0)
        ahead.close()

    def test_an_empty_file_is_nothing(self) -> None:
        ahead = ReadAhead(MemoryBlob(b""), PART, 4)
        assert fed(ahead) == b""
        ahead.close()


class TestElsewhere:
    def test_a_read_out_of_order_is_the_blobs_own(self, blob: MemoryBlob) -> None:
        ahead = ReadAhead(blob, PART, 2)
        ahead.read_into(0, memoryview(bytearray(10)))
        data = bytearray(10)
        ahead.read_into(SIZE - 10, memoryview(data))
        assert (data, fed(ahead, start=0)[:20]) == (DATA[-10:], DATA[:20])
        ahead.close()

    def test_a_read_beyond_the_end_is_refused(self, blob: MemoryBlob) -> None:
        ahead = ReadAhead(blob, PART, 2)
        with pytest.raises(ChecksumMismatch):
            ahead.read_into(SIZE - 5, memoryview(bytearray(10)))
        ahead.close()


class TestFailures:
    def test_a_part_that_fails_fails_the_read_that_comes_to_it(self, server: Oss) -> None:
        server.faults = [Fault(status=404, skip=3, times=99)]
        ahead = ReadAhead(remote(server), PART, 1)
        ahead.read_into(0, memoryview(bytearray(3 * PART)))
        with pytest.raises(ChecksumMismatch, match="changed while it was read"):
            ahead.read_into(3 * PART, memoryview(bytearray(1)))
        with pytest.raises(ChecksumMismatch):
            ahead.read_into(3 * PART, memoryview(bytearray(1)))
        ahead.close()
        assert threads() == 0

    def test_parts_that_are_cut_go_on_from_where_they_were(self, server: Oss) -> None:
        server.faults = [Fault(cut=PART // 3), Fault(cut=1000), Fault(status=503), Fault(cut=0)]
        ahead = ReadAhead(remote(server), PART, 3)
        assert fed(ahead) == DATA
        ahead.close()
        assert server.sent == SIZE

    def test_closing_ends_threads_whose_parts_stall(self, server: Oss) -> None:
        server.faults = [Fault(f"bytes={at}-", stall=1000) for at in range(PART, SIZE, PART)]
        ahead = ReadAhead(remote(server), PART, 4)
        ahead.read_into(0, memoryview(bytearray(10)))
        while server.sent < PART + 3 * 1000:
            time.sleep(0.01)
        begun = time.monotonic()
        ahead.close()
        assert (threads(), time.monotonic() - begun < 1) == (0, True)

    def test_closing_while_parts_wait_to_be_tried_again_ends_them(self, server: Oss) -> None:
        wait = {"Retry-After": "30"}
        server.faults = [Fault(f"bytes={at}-", status=503, headers=wait) for at in range(PART, SIZE, PART)]
        ahead = ReadAhead(remote(server), PART, 4)
        ahead.read_into(0, memoryview(bytearray(10)))
        ahead.close()
        assert threads() == 0

    def test_a_reader_that_waits_is_stopped_by_its_check(self, server: Oss) -> None:
        server.faults = [Fault(stall=1000, times=99)]

        def check() -> None:
            raise InterruptedError

        with closing(ReadAhead(remote(server), PART, 2, check=check)) as ahead, pytest.raises(InterruptedError):
            ahead.read_into(0, memoryview(bytearray(PART)))

    def test_a_check_that_is_content_lets_it_wait(self, server: Oss) -> None:
        let_go = threading.Event()
        server.faults = [Fault("bytes=0-", before=let_go.wait)]
        with closing(ReadAhead(remote(server), PART, 2, check=let_go.set)) as ahead:
            assert fed(ahead) == DATA

    def test_a_reader_that_stalls_ends_when_another_thread_closes(self, server: Oss) -> None:
        server.faults = [Fault(stall=1000, times=99)]
        ahead = ReadAhead(remote(server), PART, 2)
        threading.Timer(0.3, ahead.close).start()
        with pytest.raises(Unavailable):
            ahead.read_into(0, memoryview(bytearray(PART)))


def test_slow_connections_add_up() -> None:
    """8 connections of 8 MB/s, 10 ms away, against one of them."""
    size = 16 << 20
    with oss(public={"bucket"}, latency_s=0.01, bandwidth=8e6) as server:
        server.put("bucket", "file", bytes(size))
        ahead = ReadAhead(remote(server, size), 1 << 20, 8)
        begun = time.monotonic()
        feed(ahead, 0, size, [], lambda count: None)
        wall_s = time.monotonic() - begun
        ahead.close()
    assert wall_s < size / 8e6 / 2


class Counted(RangeBlob):
    """A remote file that knows how many bytes of it arrived, and which ranges were asked for."""

    def __init__(self, server: Oss, size: int) -> None:
        super().__init__("x", size, self._send)
        self.server, self.pools = server, Pools(60)
        self.arrived: list[int] = []
        self.ranges: list[tuple[int, int]] = []

    def _send(self, range_: str) -> urllib3.BaseHTTPResponse:
        first, _, last = range_.removeprefix("bytes=").partition("-")
        self.ranges.append((int(first), int(last) + 1))
        self.on_ask(int(last) + 1 - int(first))
        return self.pools.send("x", "GET", f"{self.server.url}/bucket/file", {"Range": range_})

    def on_ask(self, size: int) -> None:
        """Called before a range is asked for."""

    def stream(self, start: int, end: int) -> Stream:
        arrived = self.arrived

        class Counting(Stream):
            def read_into(self, buffer: memoryview) -> None:
                super().read_into(buffer)
                arrived.append(len(buffer))

        return Counting(self, start, end)

    def wait_for(self, count: int) -> None:
        """Wait until so many bytes are in memory."""
        while sum(self.arrived) < min(count, self.size):
            time.sleep(0.001)
        time.sleep(0.005)


class SlowRuns(Counted):
    """From the first long run on its server is slow."""

    def on_ask(self, size: int) -> None:
        if size >= 8 * PART:
            self.server.bandwidth = 20e6


class TestRuns:
    SIZE = 64 * PART

    @pytest.fixture
    def server(self) -> Iterator[Oss]:
        with oss(public={"bucket"}) as server:
            server.put("bucket", "file", noise(self.SIZE, "runs"))
            yield server

    def fed(self, server: Oss, connections: int) -> bytes:
        """Read it all, no part before memory is full."""
        blob = Counted(server, self.SIZE)
        ahead = ReadAhead(blob, PART, connections)
        data = bytearray(self.SIZE)
        for at in range(0, self.SIZE, PART):
            if at:
                blob.wait_for(at + (connections - 1) * PART)
            ahead.read_into(at, memoryview(data)[at : at + PART])
        ahead.close()
        return bytes(data)

    def test_a_reader_that_is_slower_asks_ever_less(self, server: Oss) -> None:
        assert self.fed(server, 2) == server.buckets["bucket"]["file"].data
        assert (len(server.gets()) <= 40, server.sent) == (True, self.SIZE)

    def test_a_run_that_is_cut_goes_on_from_there(self, server: Oss) -> None:
        server.faults = [Fault(cut=2 * PART + 1000, times=99)]
        assert fed(ReadAhead(remote(server, self.SIZE), PART, 2)) == server.buckets["bucket"]["file"].data
        assert server.sent == self.SIZE

    def test_a_reader_that_waits_gets_parts_side_by_side(self, server: Oss) -> None:
        server.latency_s = 0.02
        assert fed(ReadAhead(remote(server, self.SIZE), PART, 4)) == server.buckets["bucket"]["file"].data
        assert server.busiest >= 3

    def test_a_reader_that_waits_has_what_is_left_of_a_run_read_by_others(self, server: Oss) -> None:
        blob = SlowRuns(server, self.SIZE)
        data = bytearray(self.SIZE)
        at = 0
        with closing(ReadAhead(blob, PART, 2)) as ahead:
            while at < self.SIZE and not server.bandwidth:
                ahead.read_into(at, memoryview(data)[at : at + PART])
                at += PART
                blob.wait_for(at + PART)
            ahead.read_into(at, memoryview(data)[at:])
            while server.serving:
                time.sleep(0.001)
        assert data == server.buckets["bucket"]["file"].data
        assert any(begin < run_end for (_, run_end), (begin, _) in itertools.pairwise(blob.ranges))
        assert server.sent < sum(end - begin for begin, end in blob.ranges)

    def test_closing_in_the_midst_of_a_run_hangs_up(self, server: Oss) -> None:
        blob = remote(server, self.SIZE)
        stream = blob.stream(0, self.SIZE)
        stream.read_into(memoryview(bytearray(PART)))
        stream.close()
        while server.serving:
            time.sleep(0.001)
        assert server.sent < self.SIZE
