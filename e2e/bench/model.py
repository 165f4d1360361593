"""What is packed and pulled: a model on tmpfs, and memory that was touched before."""

from __future__ import annotations

import json
import os
import struct
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

SHARDS = 4
_REPORTING = Path("/sys/module/page_reporting/parameters/page_reporting_order")
SHARD_MIB = int(os.environ.get("BENCH_SHARD_MIB", "512"))


@contextmanager
def quiet_memory(room: Path, volume: int) -> Iterator[None]:
    """Touch as much memory as the runs will use at once, and have the kernel keep what is free.

    In a virtual machine a page that the host has to find costs ten times one that it gave out before, and counts as the
    guest's CPU time; and a kernel may hand free pages back to the host.
    """
    kept = _REPORTING.read_text() if os.access(_REPORTING, os.W_OK) else ""
    if kept:
        _REPORTING.write_text("11")
    with (room / "warm").open("wb") as file:
        for _ in range(4 * volume >> 20):
            file.write(bytes(1 << 20))
    (room / "warm").unlink()
    try:
        yield
    finally:
        if kept:
            _REPORTING.write_text(kept)


def make_model(folder: Path, count: int = SHARDS, mib: int = SHARD_MIB) -> list[Path]:
    """Write `count` shards, of exactly `mib` MiB each, and an index; return the shards."""
    folder.mkdir()
    size = mib << 20
    weight_map = {}
    block = os.urandom(1 << 20)
    for number in range(1, count + 1):
        path = folder / f"model-{number:05}-of-{count:05}.safetensors"
        data = size - 8 - 128
        tensor = {f"layer.{number}": {"dtype": "U8", "shape": [data], "data_offsets": [0, data]}}
        header = json.dumps(tensor).encode().ljust(128)
        with path.open("wb") as file:
            file.write(struct.pack("<Q", len(header)) + header)
            for _ in range(mib - 1):
                file.write(block)
            file.write(block[: size - file.tell()])
        weight_map[f"layer.{number}"] = path.name
    (folder / "model.safetensors.index.json").write_text(json.dumps({"weight_map": weight_map}))
    (folder / "README.md").write_text("# a model\n")
    return sorted(folder.glob("*.safetensors"))
