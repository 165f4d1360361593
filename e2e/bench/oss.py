"""The fake OSS in a process of its own, and the way round a disk: oss2 to files, oras-py from there."""

from __future__ import annotations

import mmap
import multiprocessing
import os
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from multiprocessing.connection import Connection
from pathlib import Path
from typing import NamedTuple

from e2e.bench.measure import SERVER_CORE
from tests.fakes.oss import KEY_ID, SECRET, Oss, oss
from tests.fakes.oss_signatures import REGION

BUCKET, PREFIX = "models", "demo"
URL = f"oss://{BUCKET}/{PREFIX}"
KEYS = {"OSS_ACCESS_KEY_ID": KEY_ID, "OSS_ACCESS_KEY_SECRET": SECRET}

_DOWNLOAD_AND_PUSH = """\
import os, sys, concurrent.futures, oss2, oras.client
endpoint, region, bucket, prefix, folder, host = sys.argv[1:]
auth = oss2.AuthV4(os.environ["OSS_ACCESS_KEY_ID"], os.environ["OSS_ACCESS_KEY_SECRET"])
bucket = oss2.Bucket(auth, endpoint, bucket, region=region, enable_crc=False)
keys = [found.key for found in oss2.ObjectIteratorV2(bucket, prefix=prefix + "/")]
files = [os.path.basename(key) for key in keys]
os.makedirs(folder)
os.chdir(folder)
with concurrent.futures.ThreadPoolExecutor(4) as pool:
    list(pool.map(bucket.get_object_to_file, keys, files))
client = oras.client.OrasClient(hostname=host, insecure=True)
client.push(target=f"{host}/oras:v1", files=files, disable_path_validation=True)
"""


class Seen(NamedTuple):
    """What the service sent of objects [bytes], and its requests, "METHOD /path?query"."""

    sent: int
    requests: list[str]


class Service:
    """The fake in its process: one bucket, with the files of a folder below its prefix."""

    def __init__(self, url: str, pipe: Connection) -> None:
        self.url, self._pipe = url, pipe

    @property
    def flags(self) -> list[str]:
        return ["--endpoint", self.url, "--oss-region", REGION]

    def seen(self) -> Seen:
        """Return what it saw since this was asked last."""
        self._pipe.send(None)
        return Seen(*self._pipe.recv())

    def slow_down(self, latency_s: float, bandwidth: float) -> None:
        """Wait before each answer [s], and send at most so much on each connection [bytes/s]; 0 is no limit."""
        self._pipe.send((latency_s, bandwidth))
        self._pipe.recv()


@contextmanager
def pinned_oss(folder: Path) -> Iterator[Service]:
    """Serve a folder's files on the server's core; anybody may read them."""
    ours, theirs = multiprocessing.Pipe()
    pid = os.fork()
    if not pid:
        try:
            os.sched_setaffinity(0, {SERVER_CORE})
            ours.close()
            _serve(folder, theirs)
        finally:
            os._exit(0)
    theirs.close()
    try:
        yield Service(ours.recv(), ours)
    finally:
        ours.close()
        os.waitpid(pid, 0)


def _serve(folder: Path, pipe: Connection) -> None:
    """Serve until the other end of the pipe is closed; the files are mapped, and sent from where they lie."""
    with oss(public={BUCKET}) as server:
        for path in sorted(folder.iterdir()):
            with path.open("rb") as file:
                data = memoryview(mmap.mmap(file.fileno(), 0, access=mmap.ACCESS_READ))
            server.put(BUCKET, f"{PREFIX}/{path.name}", data)  # type: ignore[arg-type]
        pipe.send(server.url)
        while True:
            try:
                asked = pipe.recv()
            except EOFError:
                return
            if asked:
                server.latency_s, server.bandwidth = asked
            pipe.send(None if asked else _taken(server))


def _taken(server: Oss) -> tuple[int, list[str]]:
    with server.lock:
        seen = server.sent, list(server.requests)
        server.sent = 0
        server.requests.clear()
    return seen


def download_and_push(service: Service, folder: Path, host: str) -> list[str]:
    """The peer: oss2 (no CRC, four threads) to files on tmpfs, then oras-py."""
    return [sys.executable, "-c", _DOWNLOAD_AND_PUSH, service.url, REGION, BUCKET, PREFIX, str(folder), host]


@contextmanager
def signed_in() -> Iterator[None]:
    """Have credentials in the environment."""
    before = dict(os.environ)
    os.environ.update(KEYS)
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
