"""Packing into a layout on disk and pulling from it, against the sum of the parts, skopeo and oras-py."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path
from typing import Any

from e2e.bench.measure import MODELCTL, RUNS, bytes_read, median, run
from e2e.bench.model import SHARD_MIB, SHARDS
from e2e.bench.parts import pack_parts, pull_parts
from e2e.bench.peers import oras_from_layout, oras_to_layout, pinned_registry, skopeo
from e2e.bench.show import compare, measure_parts


def bench_pack(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    store, scratch, folder = room / "store", room / "scratch", room / "dir"
    pack = [MODELCTL, "pack", str(model), f"oci:{store}:v1", "--quiet", "--jobs", "4"]

    def clear() -> None:
        for path in (store, scratch, room / "peer"):
            shutil.rmtree(path, ignore_errors=True)
        scratch.mkdir()

    parts = measure_parts(pack_parts(shards, scratch), clear)
    ours = {"pack": median(RUNS, lambda: run(pack), clear)}
    ours["pack, unchanged, same store"] = median(RUNS, lambda: run(pack))
    clear()
    read, mapped = bytes_read([*pack[:-1], "1"], model)
    subprocess.run(skopeo(f"oci:{store}:v1", f"dir:{folder}"), check=True)
    peers = {"skopeo dir: to oci:": median(RUNS, lambda: run(skopeo(f"dir:{folder}", f"oci:{room}/peer:v1")), clear)}
    with pinned_registry(room / "registry") as server:

        def clear_all() -> None:
            clear()
            server.empty()

        command = oras_to_layout(model, server.host, room / "peer")
        peers["oras-py files to layout"] = median(RUNS, lambda: run(command), clear_all)
    shutil.rmtree(folder)
    figures = compare(f"pack {SHARDS} x {SHARD_MIB} MiB into a layout", parts, ours, peers, volume)
    print(f"shard bytes read {read / volume:.4f}x, mapped {mapped}\n")
    return figures | {"read_ratio": read / volume, "mapped": mapped}


def bench_pull(room: Path, model: Path, shards: list[Path], volume: int) -> dict[str, Any]:
    store, scratch, out = room / "store", room / "scratch", room / "out"
    shutil.rmtree(store, ignore_errors=True)
    subprocess.run([MODELCTL, "pack", str(model), f"oci:{store}:v1", "--quiet"], check=True, stdout=subprocess.DEVNULL)
    pull = [MODELCTL, "pull", f"oci:{store}:v1", str(out), "--quiet", "--jobs", "4"]

    def clear() -> None:
        for path in (scratch, out, room / "peer"):
            shutil.rmtree(path, ignore_errors=True)
        scratch.mkdir()

    parts = measure_parts(pull_parts(shards, scratch), clear)
    ours = {"pull": median(RUNS, lambda: run(pull), clear)}
    ours["pull, all there"] = median(RUNS, lambda: run(pull))
    clear()
    peers = {
        "skopeo oci: to dir:": median(RUNS, lambda: run(skopeo(f"oci:{store}:v1", f"dir:{room}/peer")), clear),
    }
    with pinned_registry(room / "registry-back") as server:

        def clear_all() -> None:
            clear()
            server.empty()

        command = oras_from_layout(store, server.host, room / "peer")
        peers["oras-py layout to files"] = median(RUNS, lambda: run(command), clear_all)
    return compare(f"pull {SHARDS} x {SHARD_MIB} MiB from a layout, proved", parts, ours, peers, volume)
