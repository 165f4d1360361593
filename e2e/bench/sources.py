"""Packing from object storage: straight into a registry, again when nothing changed, and over slow connections.

The fake OSS and distribution 3.1 (on tmpfs) share the core that the client has not, in processes of their own. The
fake is Python: it costs 0.3 CPU s/GB, 0.7 where it sends slowly, which the registry has not; the peer's two steps
wait for one of them at a time.
"""

from __future__ import annotations

import json
import os
import resource
import shutil
import subprocess
import sys
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import partial
from http.client import HTTPConnection
from pathlib import Path
from typing import Any
from urllib.parse import parse_qs, urlsplit

from e2e.bench.counting import counting
from e2e.bench.measure import MODELCTL, Cost, call, measure, middle, run
from e2e.bench.model import SHARD_MIB, SHARDS, make_model
from e2e.bench.oss import BUCKET, PREFIX, URL, Service, download_and_push, pinned_oss, signed_in
from e2e.bench.parts import BUFFER, oss_parts
from e2e.bench.peers import pinned_registry
from e2e.bench.registries import GO
from e2e.bench.show import compare
from modelctl.core.media_types import OCI_MANIFEST
from modelctl.core.readahead import ring
from modelctl.flows.pack import MEMORY
from modelctl.flows.workers import JOBS
from tests.fakes.registries import Registry

OURS = "modelctl pack oss://"
MANY = 100
LATENCY_S, BANDWIDTH = 0.010, 50e6

Step = tuple[str, str, str, dict[str, str], str]
"""A request of the loop: host, method, path, headers, and the file that is its body, if it has one."""

_LOOP = """\
import json, sys, urllib3
pool = urllib3.PoolManager(maxsize=1)
for host, method, path, headers, file in json.load(open(sys.argv[1])):
    url, body = "http://" + host + path, open(file, "rb").read() if file else None
    if "?digest=" in path:
        url, _, digest = url.partition("?")
        url = pool.urlopen("POST", url).headers["Location"]
        url = pool.urlopen("PATCH", url, body=body, headers=headers).headers["Location"]
        url, body = url + "&" + digest, b""
    found = pool.urlopen(method, url, body=body, headers=headers)
    assert found.status < 300 or "/referrers/" in path, (method, url, found.status, found.data)
"""
"""One connection to each, as fast as urllib3 goes; the bucket is public, so nothing is signed."""


def bench_sources(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    os.environ["XDG_CACHE_HOME"] = str(room / "cache")
    with signed_in(), pinned_registry(room / "v3-oss", (str(GO / "registry"), "serve")) as server:
        with pinned_oss(model) as service:
            figures = {"pack from OSS": _bench_pack(room, shards, service, server, volume)}
        make_model(room / "many", MANY, 1)
        with pinned_oss(room / "many") as service:
            figures |= _bench_again(room, service, server)
        files = make_model(room / "half", SHARDS, max(1, SHARD_MIB // 2))
        with pinned_oss(room / "half") as service:
            figures["slow connections"] = _bench_slow(room, files, service, server)
    for name in ("many", "half"):
        shutil.rmtree(room / name)
    return figures


def _pack(service: Service, reference: str) -> list[str]:
    return [MODELCTL, "pack", URL, reference, "--quiet", *service.flags]


def _forget(room: Path, *names: str) -> None:
    for name in ("cache", *names):
        shutil.rmtree(room / name, ignore_errors=True)


def _bench_pack(room: Path, shards: list[Path], service: Service, server: Registry, volume: int) -> dict[str, Any]:
    pack = _pack(service, f"{server.host}/model:v1")
    parts = oss_parts(shards, urlsplit(service.url).netloc, [f"/{BUCKET}/{PREFIX}/{path.name}" for path in shards])
    works: dict[str, Callable[[], Cost]] = {
        **{name: partial(call, work) for name, work in parts.items()},
        OURS: lambda: run(pack),
        "oss2 to tmpfs, oras-py push": lambda: run(download_and_push(service, room / "down", server.host)),
    }

    def before(name: str) -> None:
        server.empty()
        _forget(room, "down")

    rounds = measure(works, before)
    before("")
    sent, written = _moved(service, pack)
    title = f"pack {SHARDS} x {SHARD_MIB} MiB from OSS straight into a registry"
    figures = compare(title, rounds, list(parts), [OURS], volume)
    print(f"source bytes {sent / volume:.4f}x, written to disks {written} bytes\n")
    before("")
    return figures | {"source_ratio": sent / volume, "written": written}


def _moved(service: Service, command: Sequence[str]) -> tuple[int, int]:
    """Run a command; return the bytes that it had of objects, and those that it and its like wrote to disks.

    What it keeps in the user's cache folder lies on tmpfs here, and does not count.
    """
    service.seen()
    before = resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock
    call(lambda: subprocess.call(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL))
    written = (resource.getrusage(resource.RUSAGE_CHILDREN).ru_oublock - before) * 512
    return service.seen().sent, written


def _bench_again(room: Path, service: Service, server: Registry) -> dict[str, Any]:
    """Pack what is there against a loop of the requests that this takes; with the digest cache, and with an empty one.

    With an empty one the previous artifact's provenance and table say what has not changed.
    """
    run(_pack(service, f"{server.host}/model:v1"))
    figures: dict[str, Any] = {}
    for name, latency_s, forget in [
        ("with the digest cache", 0.0, False),
        (f"with the digest cache, {LATENCY_S * 1000:.0f} ms to the source", LATENCY_S, False),
        ("with an empty digest cache", 0.0, True),
    ]:
        service.slow_down(latency_s, 0)
        figures[f"pack again, {name}"] = _again(room, name, service, server, forget=forget)
    return figures


def _again(room: Path, name: str, service: Service, server: Registry, *, forget: bool) -> dict[str, Any]:
    ours = f"modelctl pack, {name}"
    pack = _pack(service, f"{server.host}/model:v1")

    def before(work: str) -> None:
        if forget and work == ours:
            _forget(room)

    before(ours)
    steps, sent = _steps(room, service, server)
    works = {
        "the same requests in a loop": lambda: run([sys.executable, "-c", _LOOP, str(steps)]),
        ours: lambda: run(pack),
        "modelctl --version": lambda: run([MODELCTL, "--version"]),
    }
    title = f"pack {MANY} shards that are there, {len(json.loads(steps.read_text()))} requests"
    figures = compare(title, measure(works, before), [], ["the same requests in a loop"], 10**9)
    print(f"file bytes read {sent}\n")
    return figures | {"file_bytes": sent}


def _steps(room: Path, service: Service, server: Registry) -> tuple[Path, int]:
    """Have modelctl do it through a proxy; return what it asked for as a file for the loop, and file bytes read."""
    host, port = server.host.split(":")
    with counting((host, int(port))) as proxy:
        service.seen()
        run(_pack(service, f"{urlsplit(proxy.url).netloc}/model:v1"))
        asked = [line.split(" ", 1) for line in proxy.requests]
    seen = service.seen()
    source = urlsplit(service.url).netloc
    steps: list[Step] = []
    for line in seen.requests:
        method, path = line.split(" ", 1)
        steps.append((source, method, path, {}, ""))
    for method, path in asked:
        steps += _registry_step(server, method, path)
    (room / "steps.json").write_text(json.dumps(steps))
    return room / "steps.json", seen.sent


def _registry_step(server: Registry, method: str, path: str) -> list[Step]:
    """One request of the loop; an upload, which is three, is one step."""
    octets, start = {"Content-Type": "application/octet-stream"}, "/v2/model/blobs/uploads/"
    if method == "PUT" and path.startswith(start):
        digest = parse_qs(urlsplit(path).query)["digest"][0]
        return [(server.host, method, f"{start}?digest={digest}", octets, str(server.blob_path(digest)))]
    if method == "PUT":
        digest = _resolve(server, path)
        return [(server.host, method, path, {"Content-Type": OCI_MANIFEST}, str(server.blob_path(digest)))]
    if path.startswith(start):
        return []
    return [(server.host, method, path, {"Accept": OCI_MANIFEST} if "/manifests/" in path else {}, "")]


def _resolve(server: Registry, path: str) -> str:
    connection = HTTPConnection(server.host)
    connection.request("HEAD", path, headers={"Accept": OCI_MANIFEST})
    return connection.getresponse().headers["Docker-Content-Digest"]


def _bench_slow(room: Path, files: list[Path], service: Service, server: Registry) -> dict[str, Any]:
    """Read over connections of 10 ms and 50 MB/s: how much of what so many of them carry is reached."""
    volume = sum(path.stat().st_size for path in files)
    part, connections = ring(MEMORY // JOBS)
    connections *= JOBS
    store = room / "slow"
    works = {
        f"{connections} connections, received only": lambda: call(partial(_receive, service, files, part, connections)),
        "modelctl pack, into a layout": lambda: run(_pack(service, f"oci:{store}:v1")),
        "modelctl pack, into a registry": lambda: run(_pack(service, f"{server.host}/slow:v1")),
    }

    def before(name: str) -> None:
        server.empty()
        _forget(room, "slow")

    service.slow_down(LATENCY_S, BANDWIDTH)
    rounds = measure(works, before)
    before("")
    title = f"pack {len(files)} x {volume // len(files) >> 20} MiB over connections of 10 ms and 50 MB/s"
    figures = compare(title, rounds, [], list(works)[:1], volume)
    speeds = {name: volume / middle(rounds[name]).wall / 1e6 for name in works}
    print(*(f"{name}: {speed:.0f} MB/s" for name, speed in speeds.items()), "", sep="\n")
    return figures | {"mb_s": speeds}


def _receive(service: Service, files: list[Path], part: int, connections: int) -> None:
    """Read the files by as many connections, a part [bytes] each time, and throw them away."""
    parts = [(path, offset) for path in files for offset in range(0, path.stat().st_size, part)]
    host = urlsplit(service.url).netloc

    def work(number: int) -> None:
        buffer = memoryview(bytearray(BUFFER))
        connection = HTTPConnection(host)
        for path, offset in parts[number::connections]:
            wanted = {"Range": f"bytes={offset}-{offset + part - 1}", "x-oss-range-behavior": "standard"}
            connection.request("GET", f"/{BUCKET}/{PREFIX}/{path.name}", headers=wanted)
            response = connection.getresponse()
            while response.readinto(buffer):
                continue

    with ThreadPoolExecutor(connections) as pool:
        list(pool.map(work, range(connections)))
