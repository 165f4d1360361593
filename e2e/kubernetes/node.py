"""What lies on a node: image volumes, the snapshots under them, and what of their files is in the page cache."""

from __future__ import annotations

import json
import subprocess
import sys
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

from e2e.command import run
from e2e.kubernetes.namespace import SUMS, parse_sums

_TRIES = 5

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


def all_files(node: str, *folders: str) -> list[str]:
    """Return the paths of all files in folders of a node."""
    return node_exec(node, "find", *folders, "-type", "f").split()


def contents(node: str, folder: str) -> dict[str, str]:
    """Return the sha256 of every file under a folder of a node, by its path in there; it reads them all."""
    return parse_sums(node_exec(node, "sh", "-c", f"cd {folder} && {SUMS}"))


def models(node: str) -> list[str]:
    """Return the digests, in hex, of the models that host mode left on a node."""
    return node_exec(node, "sh", "-c", "ls /var/lib/modelctl/models 2>/dev/null || true").split()


def orphans(node: str) -> list[str]:
    """Return what lies in the library of a node and belongs to no model."""
    return node_exec(node, "find", "/var/lib/modelctl/files", "-type", "f", "-links", "1").split()


def images(node: str) -> list[str]:
    """Return the names of all images that the runtime of a node has."""
    return node_exec(node, "ctr", "--namespace", "k8s.io", "images", "ls", "--quiet").split()


def drop_from_page_cache(node: str, *files: str) -> None:
    """Write files of a node to its disk and let the page cache forget what nobody maps."""
    node_exec(node, "sync", *files)
    drop = 'for file; do dd if="$file" iflag=nocache count=0 status=none; done'
    node_exec(node, "sh", "-c", drop, "sh", *files)


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


class Measured(NamedTuple):
    """Which part of each file was in memory, by node, without and with the work, and what the work told."""

    before: dict[str, dict[str, float]]
    after: dict[str, dict[str, float]]
    told: Any


def measured(files: dict[str, list[str]], full: Sequence[str], work: Callable[[], Any]) -> Measured:
    """Drop files of nodes from memory, let `work` bring in those of the nodes in `full`, and measure.

    Some more times when they are not all there: pages that nobody maps are the first to go, at once where memory is
    short on this machine.
    """
    for _ in range(_TRIES):
        for node, found in files.items():
            drop_from_page_cache(node, *found)
        before = {node: resident(node, found) for node, found in files.items()}
        told = work()
        after = {node: resident(node, found) for node, found in files.items()}
        if all(set(after[node].values()) == {1} for node in full):
            break
    return Measured(before, after, told)


def resident(node: str, files: list[str]) -> dict[str, float]:
    """Return which part of each file of a node is in the page cache: 1 is all of it."""
    found = json.loads(node_exec(node, "fincore", "--json", "--bytes", "--output", "pages,size,file", *files))
    return {item["file"]: int(item["pages"]) / -(-int(item["size"]) // 4096) for item in found["fincore"]}
