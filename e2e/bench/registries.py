"""Pushing to a registry and pulling from it, against the sum of the parts, crane, regctl and oras-py.

The registry is distribution 3.1 on tmpfs, on the core that the client has not.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from pathlib import Path
from typing import Any

from e2e.bench.measure import MODELCTL, RUNS, Cost, bytes_read, call, median, run
from e2e.bench.model import SHARD_MIB, SHARDS
from e2e.bench.parts import push_parts
from e2e.bench.peers import oras_pull, oras_push, pinned_registry
from e2e.bench.show import Row, compare, measure_parts, show
from tests.fakes.registries import Registry

GO = Path(__file__).parents[2] / "build/go/bin"
CRANE, REGCTL = str(GO / "crane"), str(GO / "regctl")


def bench_registries(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    os.environ["XDG_CACHE_HOME"] = str(room / "cache")
    layout = room / "ready"
    subprocess.run([MODELCTL, "pack", str(model), f"oci:{layout}:v1", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    with pinned_registry(room / "v3", (str(GO / "registry"), "serve")) as server:
        os.environ["REGCTL_CONFIG"] = str(_regctl_config(room, server))
        figures = {
            "pack to a registry": _bench_pack(model, shards, server, layout, volume),
            "push a layout": _bench_push(server, layout, volume),
            "push again": _bench_again(server, layout, volume),
            "pull": _bench_pull(room, server, layout, volume),
        }
    shutil.rmtree(layout)
    return figures


def _regctl_config(room: Path, server: Registry) -> Path:
    path = room / "regctl.json"
    path.write_text(json.dumps({"hosts": {server.host: {"tls": "disabled"}}}))
    return path


def _bench_pack(model: Path, shards: list[Path], server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    pack = [MODELCTL, "pack", str(model), f"{server.host}/model:v1", "--quiet", "--jobs", "4"]
    parts = measure_parts(push_parts(shards), lambda: None)
    ours = {"pack": median(RUNS, lambda: run(pack), server.empty)}
    server.empty()
    read, _ = bytes_read([*pack[:-1], "1"], model)
    peers = {
        "oras-py push": median(RUNS, lambda: run(oras_push(model, server.host)), server.empty),
        "regctl image copy, from a ready layout": median(
            RUNS, lambda: run(_regctl(f"ocidir://{layout}:v1", server)), server.empty
        ),
    }
    title = f"pack {SHARDS} x {SHARD_MIB} MiB straight into a registry"
    figures = compare(title, parts, ours, peers, volume)
    print(f"shard bytes read {read / volume:.4f}x\n")
    return figures | {"read_ratio": read / volume}


def _regctl(source: str, server: Registry) -> list[str]:
    return [REGCTL, "image", "copy", source, f"{server.host}/regctl:v1"]


def _bench_push(server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    crane = [CRANE, "push", "--insecure", str(layout), f"{server.host}/crane:v1"]
    ours = median(RUNS, lambda: run(_push(server, layout)), server.empty)
    peer = median(RUNS, lambda: run(crane), server.empty)
    rows: list[Row] = [
        ("crane push", peer, 1.0, 1.0),
        ("modelctl push", ours, ours.cpu / peer.cpu, ours.wall / peer.wall),
    ]
    show(f"push a layout of {SHARDS} x {SHARD_MIB} MiB, digests known", rows, volume)
    return {"cpu_to_crane": ours.cpu / peer.cpu, "wall_to_crane": ours.wall / peer.wall, "rss": ours.rss}


def _push(server: Registry, layout: Path) -> list[str]:
    return [MODELCTL, "push", f"oci:{layout}:v1", f"{server.host}/pushed:v1", "--quiet", "--jobs", "4"]


def _bench_again(server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    """Push what is there, against a loop of the requests that this takes, on one connection."""
    run(_push(server, layout))
    digest = subprocess.run(
        [MODELCTL, "digest", f"oci:{layout}:v1"], check=True, capture_output=True, text=True
    ).stdout.strip()
    blob = (layout / "blobs/sha256" / digest.removeprefix("sha256:")).read_bytes()
    manifest = json.loads(blob)
    digests = [item["digest"] for item in (manifest["config"], *manifest["layers"])]

    def loop() -> None:
        connection = http.client.HTTPConnection(server.host)
        for path in [f"/v2/pushed/blobs/{digest}" for digest in digests] * 2:
            connection.request("HEAD", path)
            connection.getresponse().read()
        for name in (digest, "v1"):
            headers = {"Content-Type": manifest["mediaType"]}
            connection.request("PUT", f"/v2/pushed/manifests/{name}", blob, headers)
            connection.getresponse().read()

    ours = median(RUNS, lambda: run(_push(server, layout)))
    start = median(RUNS, lambda: run([MODELCTL, "--version"]))
    bare = median(RUNS, lambda: call(loop))
    work = Cost(ours.wall - start.wall, ours.cpu - start.cpu, ours.rss)
    rows: list[Row] = [
        ("the same requests in a loop", bare, 1.0, 1.0),
        ("modelctl push", ours, ours.cpu / bare.cpu, ours.wall / bare.wall),
        ("modelctl push, less its start", work, work.cpu / bare.cpu, work.wall / bare.wall),
    ]
    show("push what is there", rows, volume)
    return {"wall_to_loop": ours.wall / bare.wall, "wall_to_loop_less_start": work.wall / bare.wall}


def _bench_pull(room: Path, server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    server.empty()
    run(_push(server, layout))
    out = room / "out"

    def clear() -> None:
        shutil.rmtree(out, ignore_errors=True)

    pull = [MODELCTL, "pull", f"{server.host}/pushed:v1", str(out), "--quiet", "--jobs", "4"]
    crane = [CRANE, "pull", "--insecure", "--format", "oci", f"{server.host}/pushed:v1", str(out)]
    peer = median(RUNS, lambda: run(crane), clear)
    ours = median(RUNS, lambda: run(pull), clear)
    clear()
    run(oras_push(room / "model", server.host))
    oras = median(RUNS, lambda: run(oras_pull(server.host, out)), clear)
    rows: list[Row] = [
        ("crane pull --format oci", peer, 1.0, 1.0),
        ("modelctl pull, proved, as files", ours, ours.cpu / peer.cpu, ours.wall / peer.wall),
        ("oras-py pull, unproved", oras, oras.cpu / peer.cpu, oras.wall / peer.wall),
    ]
    show(f"pull {SHARDS} x {SHARD_MIB} MiB from a registry", rows, volume)
    clear()
    return {"cpu_to_crane": ours.cpu / peer.cpu, "wall_to_crane": ours.wall / peer.wall, "rss": ours.rss}
