"""What is done to nodes, and waiting for what comes of it."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from e2e.command import CommandFailed, ended, run
from e2e.kubernetes.namespace import kubectl
from e2e.kubernetes.node import node_exec

_DISK = "/var/lib/modelctl"
_FILLER = f"{_DISK}/filler"


@contextmanager
def slow_network(node: str, rate: str) -> Iterator[None]:
    """Let a node receive no faster than `rate`, as tc has it: 20mbit."""
    cable = node.replace("n", "veth")
    run("tc", "qdisc", "add", "dev", cable, "root", "tbf", "rate", rate, "burst", "256kb", "latency", "100ms")
    try:
        yield
    finally:
        ended("tc", "qdisc", "del", "dev", cable, "root")  # the cable of a node that lost its power is another


@contextmanager
def full_disk(node: str, free: int) -> Iterator[None]:
    """Leave so much of a node's disk free [bytes], where its runtime and its models lie; or less: others write, too."""
    available = int(node_exec(node, "df", "--output=avail", "--block-size=1", _DISK).split()[-1])
    try:
        ended("cluster", "exec", node, "--", "fallocate", "-l", str(available - free), _FILLER)
        yield
    finally:
        make_room(node)


def settled(node: str, image: str) -> None:
    """Wait until pods may start on a node, and bring it an image: a kubelet whose disk was full has removed that."""
    wait_until("no taint", lambda: not kubectl("get", "node", node, "-o", "jsonpath={.spec.taints}"))
    node_exec(node, "ctr", "--namespace", "k8s.io", "images", "pull", "--plain-http", image)


def make_room(node: str) -> None:
    node_exec(node, "rm", "-f", _FILLER)


def on_disk(node: str, folder: str) -> int:
    """Return how much a folder of a node, which may not be there, takes [bytes]."""
    return int(node_exec(node, "sh", "-c", f"du -s --block-size=1 {folder} 2>/dev/null || echo 0").split()[0])


def wait_until(what: str, is_so: Callable[[], bool], patience_s: float = 60.0) -> None:
    """Wait until something is so."""
    deadline = time.monotonic() + patience_s
    while not is_so():
        if time.monotonic() > deadline:
            raise CommandFailed(f"waited {patience_s:.0f} s for {what}")
        time.sleep(0.2)
