"""`make bench`: pack and pull of 4 shards x 512 MiB on tmpfs, each process pinned to a core, medians of 5.

Quote the ratios; the machine's own speed is in the columns beside them. BENCH_SHARD_MIB and BENCH_RUNS make it
shorter. The figures are also written to build/bench.json.
"""

from __future__ import annotations

import json
import os
import re
import shutil
import struct
import subprocess
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from rich.console import Console
from rich.table import Table

from e2e.bench.measure import CLIENT_CORE, Cost, call, median, run
from e2e.bench.parts import pack_parts, pull_parts
from e2e.bench.peers import oras_from_layout, oras_to_layout, registry, skopeo

SHARDS = 4
SHARD_MIB = int(os.environ.get("BENCH_SHARD_MIB", "512"))
RUNS = int(os.environ.get("BENCH_RUNS", "5"))
MODELCTL = str(Path(sys.executable).with_name("modelctl"))

Row = tuple[str, Cost, float | None, float | None]


EMPTY_APP = "import typer; app = typer.Typer(); app.command()(lambda: None); app()"


def warm_up(room: Path, volume: int) -> None:
    """Touch the memory that the runs will use: pages that the machine never gave out before cost many times more."""
    for _ in range(2):
        for number in range(3):
            with (room / f"warm-{number}").open("wb") as file:
                for _ in range(volume >> 20):
                    file.write(bytes(1 << 20))
        for number in range(3):
            (room / f"warm-{number}").unlink()


def make_model(folder: Path) -> list[Path]:
    """Write the shards, of exactly `SHARD_MIB` MiB each, and an index; return the shards."""
    folder.mkdir()
    size = SHARD_MIB << 20
    weight_map = {}
    block = os.urandom(1 << 20)
    for number in range(1, SHARDS + 1):
        path = folder / f"model-{number:05}-of-{SHARDS:05}.safetensors"
        data = size - 8 - 128
        tensor = {f"layer.{number}": {"dtype": "U8", "shape": [data], "data_offsets": [0, data]}}
        header = json.dumps(tensor).encode().ljust(128)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for _ in range(SHARD_MIB - 1):
                file.write(block)
            file.write(block[: size - file.tell()])
        weight_map[f"layer.{number}"] = path.name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "README.md").write_text("# a model\n")
    return sorted(folder.glob("*.safetensors"))


def bytes_read(command: list[str], folder: Path) -> tuple[int, int]:
    """Count, under strace, the bytes that a command reads from the shards of `folder`, and those that it maps.

    The command must work on one shard at a time: strace cuts the lines of calls that overlap.
    """
    with tempfile.NamedTemporaryFile("r", suffix=".trace") as trace:
        calls = "read,pread64,readv,preadv,preadv2,sendfile,copy_file_range,mmap"
        wanted = re.escape(str(folder))
        subprocess.run(
            ["strace", "-f", "-y", "-qq", "-e", f"trace={calls}", "-o", trace.name, *command],
            check=True, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
        )  # fmt: skip
        lines = [line for line in trace if re.search(rf"<{wanted}/[^>]*\.safetensors>", line)]
    results = [(re.search(r" (\w+)\(", line), re.search(r"= (\d+)\s*$", line), line) for line in lines]
    read = sum(int(end[1]) for name, end, _ in results if name and end and name[1] != "mmap")
    maps = [re.search(r"mmap\([^,]+, (\d+)", line) for name, _, line in results if name and name[1] == "mmap"]
    return read, sum(int(found[1]) for found in maps if found)


def measure_parts(parts: Mapping[str, Callable[[], None]], clear: Callable[[], object]) -> dict[str, Cost]:
    return {name: median(RUNS, lambda work=work: call(work), clear) for name, work in parts.items()}


def show(title: str, rows: list[Row], volume: int) -> None:
    table = Table(title=title, title_justify="left")
    for column in ("", "wall s", "CPU s", "CPU s/GB", "RSS MiB", "CPU ratio", "wall ratio"):
        table.add_column(column, justify="left" if not column else "right")
    for name, cost, cpu_ratio, wall_ratio in rows:
        table.add_row(
            name,
            f"{cost.wall:.2f}",
            f"{cost.cpu:.2f}",
            f"{cost.cpu / volume * 1e9:.2f}",
            f"{cost.rss >> 20}",
            f"{cpu_ratio:.2f}" if cpu_ratio else "",
            f"{wall_ratio:.2f}" if wall_ratio else "",
        )
    Console(width=120).print(table)


def compare(title: str, parts: dict[str, Cost], ours: dict[str, Cost], peers: dict[str, Cost], volume: int) -> dict:
    """Print one table: the parts and their sum, ours as a ratio to that, the peers as a ratio to ours."""
    whole = Cost(sum(cost.wall for cost in parts.values()), sum(cost.cpu for cost in parts.values()), 0)
    first = next(iter(ours.values()))
    rows: list[Row] = [(name, cost, None, None) for name, cost in parts.items()]
    rows.append(("sum of the parts", whole, 1.0, 1.0))
    rows += [(f"modelctl {name}", cost, cost.cpu / whole.cpu, cost.wall / whole.wall) for name, cost in ours.items()]
    rows += [(f"{name}, to ours", cost, cost.cpu / first.cpu, cost.wall / first.wall) for name, cost in peers.items()]
    show(title, rows, volume)
    return {name: {"wall_s": cost.wall, "cpu_s": cost.cpu, "rss": cost.rss} for name, cost, *_ in rows} | {
        "cpu_ratio": first.cpu / whole.cpu
    }


def bench_pack(room: Path, model: Path, shards: list[Path], volume: int) -> dict:
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
    with registry(room / "registry") as server:

        def clear_all() -> None:
            clear()
            server.empty()

        command = oras_to_layout(model, server.port, room / "peer")
        peers["oras-py files to layout"] = median(RUNS, lambda: run(command), clear_all)
    shutil.rmtree(folder)
    figures = compare(f"pack {SHARDS} x {SHARD_MIB} MiB into a layout", parts, ours, peers, volume)
    print(f"shard bytes read {read / volume:.4f}x, mapped {mapped}\n")
    return figures | {"read_ratio": read / volume, "mapped": mapped}


def bench_pull(room: Path, model: Path, shards: list[Path], volume: int) -> dict:
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
    with registry(room / "registry-back") as server:

        def clear_all() -> None:
            clear()
            server.empty()

        command = oras_from_layout(store, server.port, room / "peer")
        peers["oras-py layout to files"] = median(RUNS, lambda: run(command), clear_all)
    return compare(f"pull {SHARDS} x {SHARD_MIB} MiB from a layout, proved", parts, ours, peers, volume)


def bench_help() -> dict:
    ours = median(RUNS * 2, lambda: run([MODELCTL, "--help"]))
    empty = median(RUNS * 2, lambda: run([sys.executable, "-c", EMPTY_APP, "--help"]))
    bare = median(RUNS * 2, lambda: run([sys.executable, "-c", "import typer, rich"]))
    rows: list[Row] = [
        ("import typer and rich", bare, 1.0, 1.0),
        ("an empty typer app --help", empty, empty.cpu / bare.cpu, empty.wall / bare.wall),
        ("modelctl --help", ours, ours.cpu / bare.cpu, ours.wall / bare.wall),
    ]
    show("--help", rows, 10**9)
    return {"wall_ratio": ours.wall / bare.wall}


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="modelctl-bench-", dir="/dev/shm") as name:
        room = Path(name)
        shards = make_model(room / "model")
        volume = sum(path.stat().st_size for path in shards)
        warm_up(room, volume)
        print(f"medians of {RUNS}, client on core {CLIENT_CORE}, {volume / 1e9:.2f} GB on tmpfs\n")
        figures = {
            "pack": bench_pack(room, room / "model", shards, volume),
            "pull": bench_pull(room, room / "model", shards, volume),
            "help": bench_help(),
        }
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
