"""A run as the machine has it: folders, disks and namespaces, made before the hub and removed after it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from e2e.cluster.groups import remove_groups
from e2e.cluster.plan import PRIVATE_REGISTRY, REGISTRY, plan_clusters
from e2e.cluster.processes import SELF, follow, new_pid_namespace, sh
from e2e.cluster.programs import install, path_with_programs

RUNS = Path("/var/tmp/modelctl-cluster")


def run(sizes: str, disks: list[str], keep: str, command: list[str]) -> int:
    """Run a command beside clusters, remove them, return its status.

    Args:
        sizes: How many nodes, for each cluster: "3", or "2,1".
        disks: Nodes with a disk of their own, as NODE=MIB.
        keep: A folder for logs and state, which then stay; or nothing.
        command: Its words.
    """
    nodes = _node_names(sizes)
    _check_disks(disks, nodes)
    if keep and os.path.exists(keep) and os.listdir(keep):
        sys.exit(f"cluster: --keep {keep}: not empty")
    os.environ["PATH"] = path_with_programs()
    install()
    for program in ("crane", command[0]):
        if not shutil.which(program):
            sys.exit(f"cluster: {program}: command not found")
    own = _own_folder()
    base = Path(keep).resolve() if keep else own
    try:
        for name in nodes:
            (base / name).mkdir(parents=True)
        for name, size in (disk.split("=") for disk in disks):
            sh("mkfs.ext4", "-q", "-m", "0", base / name / "disk.ext4", f"{size}M", capture_output=True)
        environment = _environment(base, own.name, sizes, nodes)
        signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])  # until each of the two can handle it
        new_pid_namespace()
        namespaces = ("setpriv", "--pdeathsig", "KILL", "unshare", "--mount", "--net", "--mount-proc")
        return follow(subprocess.Popen([*namespaces, *SELF, "_hub", "--", *command], env=environment))
    finally:
        with contextlib.suppress(OSError):  # or the next run does it
            _clean(own)


def _node_names(sizes: str) -> list[str]:
    if not re.fullmatch(r"[1-9]\d?(,[1-9]\d?){0,7}", sizes):
        sys.exit(f"cluster: --nodes {sizes}: say 3, or 2,1")
    return [f"n{number}" for cluster in plan_clusters(sizes) for number in cluster.nodes]


def _check_disks(disks: list[str], nodes: list[str]) -> None:
    if any(not re.fullmatch(rf"({'|'.join(nodes)})=\d+", disk) for disk in disks):
        sys.exit(f"cluster: --disk {' '.join(disks)}: say n2=300, of a node that there is")


def _environment(base: Path, group: str, sizes: str, nodes: list[str]) -> dict[str, str]:
    """Return what the hub and the command see: no proxy, and the settings of no user."""
    own = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    return own | {
        "CLUSTER_DIR": str(base),
        "CLUSTER_GROUP": group,
        "CLUSTER_SIZES": sizes,
        "CLUSTER_NODES": ",".join(nodes),
        "CLUSTER_REGISTRY": REGISTRY,
        "CLUSTER_PRIVATE_REGISTRY": PRIVATE_REGISTRY,
        "KUBECACHEDIR": f"{base}/kubectl",
        "DOCKER_CONFIG": f"{base}/docker",
    }


def _own_folder() -> Path:
    """Remove what killed runs left; return a new folder that is locked as long as this process lives."""
    RUNS.mkdir(exist_ok=True)
    for left in RUNS.glob("cluster-*"):
        with contextlib.suppress(OSError):  # that of a living run, or of one still dying
            _lock(left)
            _clean(left)
    new = Path(tempfile.mkdtemp(dir=RUNS))
    _lock(new)
    return new.rename(RUNS / f"cluster-{new.name}")  # from here on others look at it


def _lock(folder: Path) -> None:
    fcntl.flock(os.open(folder, os.O_RDONLY), fcntl.LOCK_EX | fcntl.LOCK_NB)


def _clean(folder: Path) -> None:
    remove_groups(folder.name)
    shutil.rmtree(folder)
