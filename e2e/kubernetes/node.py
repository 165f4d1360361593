"""What lies on a node: image volumes, the snapshots under them, and what of their files is in the page cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.command import run

_HOLD = """
import mmap, os, sys
how = {"flags": mmap.MAP_SHARED | 0x2000, "prot": mmap.PROT_READ}  # MAP_LOCKED
held = [mmap.mmap(os.open(name, os.O_RDONLY), 0, **how) for name in sys.argv[1:]]
print("held", flush=True)
sys.stdin.read()
"""


def node_exec(node: str, *command: str | Path) -> str:
    """Run a command on a node, as root."""
    return run("cluster", "exec", node, "--", *command)


def snapshots(node: str, digest: str) -> list[str]:
    """Return the folders that an image volume of `digest` is laid over, that of its first layer first."""
    mounts = [line.split() for line in node_exec(node, "cat", "/proc/mounts").splitlines()]
    volume = f"/{digest.removeprefix('sha256:')}"
    (options,) = [mount[3] for mount in mounts if "/image-volumes/" in mount[1] and mount[1].endswith(volume)]
    (lower,) = [option for option in options.split(",") if option.startswith("lowerdir=")]
    return lower.removeprefix("lowerdir=").split(":")[::-1]


def weight_files(node: str, folders: list[str]) -> list[str]:
    """Return the paths of the shards in folders of a node, in their order."""
    found = node_exec(node, "find", *folders, "-name", "*.safetensors")
    return sorted(found.split(), key=lambda path: Path(path).name)


def drop_from_page_cache(node: str, file: str) -> None:
    """Write a file of a node to its disk and let the page cache forget it."""
    node_exec(node, "sync", file)
    node_exec(node, "dd", f"if={file}", "iflag=nocache", "count=0", "status=none")


@contextmanager
def held_in_page_cache(node: str, files: list[str]) -> Iterator[None]:
    """Bring files of a node into the page cache and lock them there: memory may be short on this machine."""
    command = ["cluster", "exec", node, "--", sys.executable, "-c", _HOLD, *files]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as holder:
        assert holder.stdin is not None
        assert holder.stdout is not None
        assert holder.stdout.readline() == "held\n"
        yield
        holder.stdin.close()


def resident(node: str, files: list[str]) -> dict[str, float]:
    """Return which part of each file of a node is in the page cache: 1 is all of it."""
    found = json.loads(node_exec(node, "fincore", "--json", "--bytes", "--output", "pages,size,file", *files))
    return {item["file"]: int(item["pages"]) / -(-int(item["size"]) // 4096) for item in found["fincore"]}
