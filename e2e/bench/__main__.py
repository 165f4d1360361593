"""`make bench`: 4 shards x 512 MiB on tmpfs, each process pinned to a core, medians of 5.

Quote the ratios; the machine's own speed is in the columns beside them. BENCH_SHARD_MIB and BENCH_RUNS make it
shorter; a word behind (`layouts`, `registries`, `sources`, `regions`, `node`, `help`) runs that part alone. The figures
are also written to build/bench.json.
"""

from __future__ import annotations

import json
import sys
import tempfile
from pathlib import Path
from typing import Any

from e2e.bench.layouts import bench_pack, bench_pull
from e2e.bench.measure import CLIENT_CORE, MODELCTL, RUNS, measure, run
from e2e.bench.model import make_model, quiet_memory
from e2e.bench.node import bench_node
from e2e.bench.regions import bench_regions
from e2e.bench.registries import bench_registries
from e2e.bench.show import compare
from e2e.bench.sources import bench_sources

EMPTY_APP = "import typer; app = typer.Typer(); app.command()(lambda: None); app()"


def bench_help() -> dict[str, Any]:
    bare = [sys.executable, "-c", "import typer, rich"]
    works = {
        "import typer and rich": lambda: run(bare),
        "an empty typer app --help": lambda: run([sys.executable, "-c", EMPTY_APP, "--help"]),
        "modelctl --help": lambda: run([MODELCTL, "--help"]),
    }
    return compare("--help", measure(works), [], ["import typer and rich"], 10**9)


def main() -> None:
    wanted = sys.argv[1:] or ["layouts", "registries", "sources", "regions", "node", "help"]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="modelctl-bench-", dir="/dev/shm") as name:
        room = Path(name)
        shards = make_model(room / "model")
        volume = sum(path.stat().st_size for path in shards)
        print(f"medians of {RUNS}, client on core {CLIENT_CORE}, {volume / 1e9:.2f} GB on tmpfs\n")
        with quiet_memory(room, volume):
            if "layouts" in wanted:
                figures["pack"] = bench_pack(room, room / "model", shards, volume)
                figures["pull"] = bench_pull(room, room / "model", shards, volume)
            if "registries" in wanted:
                figures |= bench_registries(room, room / "model", shards, volume)
            if "sources" in wanted:
                figures |= bench_sources(room, room / "model", shards, volume)
            if "regions" in wanted:
                figures |= bench_regions(room, room / "model", volume)
            if "node" in wanted:
                figures |= bench_node()
    if "help" in wanted:
        figures["help"] = bench_help()
    Path("build").mkdir(exist_ok=True)
    Path("build/bench.json").write_text(json.dumps(figures, indent=2))


if __name__ == "__main__":
    main()
