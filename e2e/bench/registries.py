"""Pushing to a registry and pulling from it, against the sum of the parts, crane, regctl and oras-py.

The registry is distribution 3.1 on tmpfs, on the core that the client has not.
"""

from __future__ import annotations

import http.client
import json
import os
import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from e2e.bench.measure import MODELCTL, Cost, bytes_read, call, measure, run
from e2e.bench.model import SHARD_MIB, SHARDS
from e2e.bench.parts import push_parts
from e2e.bench.peers import oras_pull, oras_push, pinned_registry
from e2e.bench.show import compare
from tests.fakes.registries import Registry

GO = Path(__file__).parents[2] / "build/go/bin"
LAYERS = 1000
CRANE, REGCTL = str(GO / "crane"), str(GO / "regctl")


def bench_registries(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    os.environ["XDG_CACHE_HOME"] = str(room / "cache")
    layout = room / "ready"
    pack = [MODELCTL, "pack", str(model), f"oci:{layout}:v1", "--quiet", "--no-provenance"]  # crane takes one manifest
    subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
    with pinned_registry(room / "v3", (str(GO / "registry"), "serve")) as server:
        os.environ["REGCTL_CONFIG"] = str(_regctl_config(room, server))
        figures = {
            "pack to a registry": _bench_pack(room, shards, server, layout, volume),
            "push a layout": _bench_push(room, server, layout, volume),
            "push again": _bench_again(room, server),
            "pull": _bench_pull(room, server, layout, volume),
        }
    shutil.rmtree(layout)
    return figures


def _regctl_config(room: Path, server: Registry) -> Path:
    path = room / "regctl.json"
    path.write_text(json.dumps({"hosts": {server.host: {"tls": "disabled"}}}))
    return path


def _bench_pack(room: Path, shards: list[Path], server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    model = room / "model"
    pack = [MODELCTL, "pack", str(model), f"{server.host}/model:v1", "--quiet", "--no-provenance", "--jobs", "4"]
    parts = push_parts(shards)
    works: dict[str, Callable[[], Cost]] = {
        **{name: partial(call, work) for name, work in parts.items()},
        "modelctl pack": lambda: run(pack),
        "oras-py push": lambda: run(oras_push(model, server.host)),
        "regctl image copy, from a ready layout": lambda: run(_regctl(f"ocidir://{layout}:v1", server)),
    }

    def before(name: str) -> None:
        server.empty()

    rounds = measure(works, before)
    server.empty()
    read, _ = bytes_read([*pack[:-1], "1"], model)
    title = f"pack {SHARDS} x {SHARD_MIB} MiB straight into a registry"
    figures = compare(title, rounds, list(parts), ["modelctl pack"], volume)
    print(f"shard bytes read {read / volume:.4f}x\n")
    return figures | {"read_ratio": read / volume}


def _regctl(source: str, server: Registry) -> list[str]:
    return [REGCTL, "image", "copy", source, f"{server.host}/regctl:v1"]


def _bench_push(room: Path, server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    crane = [CRANE, "push", "--insecure", str(layout), f"{server.host}/crane:v1"]

    def before(name: str) -> None:
        server.empty()

    works = {"crane push": lambda: run(crane), "modelctl push": lambda: run(_push(server, layout))}
    return compare(
        f"push a layout of {SHARDS} x {SHARD_MIB} MiB, digests known",
        measure(works, before),
        [],
        ["crane push"],
        volume,
    )


def _push(server: Registry, layout: Path) -> list[str]:
    return [MODELCTL, "push", f"oci:{layout}:v1", f"{server.host}/pushed:v1", "--quiet", "--jobs", "4"]


def _bench_again(room: Path, server: Registry) -> dict[str, Any]:
    """Push what is there, many small layers, against a loop of the requests that this takes, on one connection."""
    layout, files = room / "small", room / "files"
    files.mkdir()
    for number in range(LAYERS):
        (files / f"{number:04}.json").write_text(f'{{"part": {number}}}')
    pack = [MODELCTL, "pack", str(files), f"oci:{layout}:v1", "--layout", "raw", "--max-layers", str(2 * LAYERS), "-q"]
    subprocess.run(pack, check=True, stdout=subprocess.DEVNULL)
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

    works = {
        "the same requests in a loop": lambda: call(loop),
        "modelctl push": lambda: run(_push(server, layout)),
        "modelctl --version": lambda: run([MODELCTL, "--version"]),
    }
    title = f"push {LAYERS} layers that are there"
    return compare(title, measure(works), [], ["the same requests in a loop"], 10**9)


def _bench_pull(room: Path, server: Registry, layout: Path, volume: int) -> dict[str, Any]:
    server.empty()
    run(_push(server, layout))
    out = room / "out"

    def before(name: str) -> None:
        shutil.rmtree(out, ignore_errors=True)

    pull = [MODELCTL, "pull", f"{server.host}/pushed:v1", str(out), "--quiet", "--jobs", "4"]
    crane = [CRANE, "pull", "--insecure", "--format", "oci", f"{server.host}/pushed:v1", str(out)]
    run(oras_push(room / "model", server.host))
    works = {
        "crane pull --format oci": lambda: run(crane),
        "modelctl pull, proved, as files": lambda: run(pull),
        "oras-py pull, unproved": lambda: run(oras_pull(server.host, out)),
    }
    figures = compare(
        f"pull {SHARDS} x {SHARD_MIB} MiB from a registry",
        measure(works, before),
        [],
        ["crane pull --format oci"],
        volume,
    )
    shutil.rmtree(out, ignore_errors=True)
    return figures
