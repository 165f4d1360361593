"""What a run is made of: clusters, nodes, addresses, and where its state lies. Nothing here starts anything."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path

BASE = Path(os.environ.get("CLUSTER_DIR", ""))
"""State and logs of the run that this process belongs to."""

HUB = "10.90.0.1"
REGISTRY = f"{HUB}:5000"
PRIVATE_REGISTRY = f"{HUB}:5001"
PODS = "10.91.0.0/16"


@dataclass(frozen=True)
class Cluster:
    """One cluster of a run: its place among them, and the numbers of its nodes, which no other has."""

    index: int
    nodes: tuple[int, ...]

    @property
    def name(self) -> str:
        return "abcdefgh"[self.index]

    @property
    def address(self) -> str:
        """Where its API server and its DNS listen."""
        return f"10.90.0.{1 + self.index}"

    @property
    def server(self) -> str:
        return f"https://{self.address}:6443"

    @property
    def services(self) -> str:
        return f"10.{96 + self.index}.0.0/16"

    @property
    def api_service(self) -> str:
        return f"10.{96 + self.index}.0.1"

    @property
    def dns_service(self) -> str:
        return f"10.{96 + self.index}.0.10"


def plan_clusters(sizes: str) -> list[Cluster]:
    """Number the nodes of clusters through: "2,1" is n1 and n2, then n3."""
    clusters: list[Cluster] = []
    first = 1
    for index, size in enumerate(map(int, sizes.split(","))):
        clusters.append(Cluster(index, tuple(range(first, first + size))))
        first += size
    return clusters


def clusters_of_run() -> list[Cluster]:
    """Return the clusters of the run that this process belongs to."""
    return plan_clusters(os.environ["CLUSTER_SIZES"])


def group_of_run() -> str:
    """Return the name of the cgroup that holds those of the nodes."""
    return os.environ["CLUSTER_GROUP"]


def node_address(number: int) -> str:
    return f"10.90.0.{10 + number}"


def pod_addresses(number: int) -> str:
    return f"10.91.{number}.0/24"


def pid_file(number: int) -> Path:
    """Return the file that names the node's process 1, as the hub counts; there while the node is up."""
    return BASE / f"n{number}.pid"
