"""Packing into a layout on disk and pulling from it, against the sum of the parts, skopeo and oras-py."""

from __future__ import annotations

import shutil
import subprocess
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

from e2e.bench.measure import MODELCTL, Cost, bytes_read, call, measure, run
from e2e.bench.model import SHARD_MIB, SHARDS
from e2e.bench.parts import pack_parts, pull_parts
from e2e.bench.peers import oras_from_layout, oras_to_layout, pinned_registry, skopeo
from e2e.bench.show import compare


def bench_pack(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    store, scratch, folder, peer = room / "store", room / "scratch", room / "dir", room / "peer"
    pack = [MODELCTL, "pack", str(model), f"oci:{store}:v1", "--quiet", "--jobs", "4"]
    subprocess.run([*pack[:3], f"oci:{room}/first:v1", "-q"], check=True, stdout=subprocess.DEVNULL)
    subprocess.run(skopeo(f"oci:{room}/first:v1", f"dir:{folder}"), check=True)
    shutil.rmtree(room / "first")
    parts = pack_parts(shards, scratch)
    with pinned_registry(room / "registry") as server:
        works: dict[str, Callable[[], Cost]] = {
            **{name: partial(call, work) for name, work in parts.items()},
            "modelctl pack": lambda: run(pack),
            "modelctl pack, unchanged": lambda: run(pack),
            "skopeo dir: to oci:": lambda: run(skopeo(f"dir:{folder}", f"oci:{peer}:v1")),
            "oras-py files to layout": lambda: run(oras_to_layout(model, server.host, peer)),
        }

        def before(name: str) -> None:
            for path in (scratch, peer, *([] if name.endswith("unchanged") else [store])):
                shutil.rmtree(path, ignore_errors=True)
            scratch.mkdir()
            server.empty()

        rounds = measure(works, before)
    read, mapped = bytes_read([*pack[:-1], "1"], model)
    shutil.rmtree(folder)
    title = f"pack {SHARDS} x {SHARD_MIB} MiB into a layout"
    figures = compare(title, rounds, list(parts), ["modelctl pack", "modelctl pack, unchanged"], volume)
    print(f"shard bytes read {read / volume:.4f}x, mapped {mapped}\n")
    return figures | {"read_ratio": read / volume, "mapped": mapped}


def bench_pull(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    store, scratch, out, peer = room / "store", room / "scratch", room / "out", room / "peer"
    shutil.rmtree(store, ignore_errors=True)
    subprocess.run([MODELCTL, "pack", str(model), f"oci:{store}:v1", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    pull = [MODELCTL, "pull", f"oci:{store}:v1", str(out), "--quiet"]
    parts = pull_parts(shards, scratch)
    with pinned_registry(room / "registry-back") as server:
        works: dict[str, Callable[[], Cost]] = {
            **{name: partial(call, work) for name, work in parts.items()},
            "modelctl pull": lambda: run(pull),
            "modelctl pull --jobs 4": lambda: run([*pull, "--jobs", "4"]),
            "modelctl pull, all there": lambda: run(pull),
            "skopeo oci: to dir:": lambda: run(skopeo(f"oci:{store}:v1", f"dir:{peer}")),
            "oras-py layout to files": lambda: run(oras_from_layout(store, server.host, peer)),
        }

        def before(name: str) -> None:
            for path in (scratch, peer, *([] if name.endswith("all there") else [out])):
                shutil.rmtree(path, ignore_errors=True)
            scratch.mkdir()
            server.empty()

        rounds = measure(works, before)
    shutil.rmtree(store)
    shutil.rmtree(out, ignore_errors=True)
    title = f"pull {SHARDS} x {SHARD_MIB} MiB from a layout, proved"
    return compare(
        title,
        rounds,
        list(parts),
        ["modelctl pull", "modelctl pull --jobs 4", "modelctl pull, all there"],
        volume,
    )
