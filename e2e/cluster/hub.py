"""The hub: the network namespace of registries and control planes, where the command runs."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
from pathlib import Path

from e2e.cluster.control_plane import start_control_plane
from e2e.cluster.identity import make_certificate, write_kubeconfig
from e2e.cluster.node import boot
from e2e.cluster.plan import BASE, HUB, PRIVATE_REGISTRY, REGISTRY, Cluster, clusters_of_run, node_address
from e2e.cluster.processes import follow, ip, ok, resolve_with, sh, start, until

_HTPASSWD = "test:$2b$04$gu2Bh1ixk0STVMPWitySP.jl/9MIVyyE1sLX2UQlZna7xjCIRl0Dy\n"
_WATCHERS = Path("/proc/sys/fs/inotify/max_user_instances")


def run_hub(command: list[str]) -> int:
    """Boot all clusters of the run, run the command beside them, return its status."""
    clusters = clusters_of_run()
    _make_network(clusters)
    _WATCHERS.write_text(str(max(1024, int(_WATCHERS.read_text()))))  # a node takes ten, the whole machine has 128
    resolve_with(BASE / "resolv.conf", HUB)
    make_certificate("ca", "/CN=cluster-ca")
    make_certificate("sa", "/CN=service-accounts")
    (BASE / "htpasswd").write_text(_HTPASSWD)
    _start_registry("registry", REGISTRY)
    auth = {"htpasswd": {"realm": "test", "path": f"{BASE}/htpasswd"}}
    _start_registry("private-registry", PRIVATE_REGISTRY, auth=auth)
    _start_etcd()
    _push_busybox()
    for cluster in clusters:
        start_control_plane(cluster)
    os.environ["KUBECONFIG"] = write_kubeconfig("kubeconfig", {cluster.name: cluster.server for cluster in clusters})
    for cluster in clusters:
        for number in cluster.nodes:
            boot(number)
    for cluster in clusters:
        _wait_for_nodes(cluster)
    return follow(subprocess.Popen(command))


def _make_network(clusters: list[Cluster]) -> None:
    ip("link set lo up", "link add br0 type bridge", "link set br0 up")
    for cluster in clusters:
        ip(
            f"addr add {cluster.address}/24 dev br0",
            f"route add {cluster.services} via {node_address(cluster.nodes[0])}",
        )
    sh("sysctl", "-qw", "net.ipv4.ip_forward=1")


def _start_registry(name: str, address: str, **more: object) -> None:
    config = BASE / f"{name}.yml"
    storage = {"filesystem": {"rootdirectory": f"{BASE}/{name}"}, "delete": {"enabled": True}}
    document = {"version": 0.1, "log": {"level": "warn"}, "http": {"addr": address}, "storage": storage, **more}
    config.write_text(json.dumps(document))
    start(name, "docker-registry", "serve", config)


def _start_etcd() -> None:
    start(
        "etcd",
        *("etcd", "--data-dir", BASE / "etcd", "--unsafe-no-fsync=true"),
        *("--listen-client-urls", "http://127.0.0.1:2379", "--advertise-client-urls", "http://127.0.0.1:2379"),
        *("--listen-peer-urls", "http://127.0.0.1:2380"),
    )


def _push_busybox() -> None:
    """Push one image for pods and for the pause container: busybox, whose entry point waits to be told to stop."""
    root, layer, image = BASE / "busybox", BASE / "busybox.tar", f"{REGISTRY}/test/busybox:1"
    (root / "bin").mkdir(parents=True)
    shutil.copy("/bin/busybox", root / "bin/busybox")
    for applet in set(subprocess.check_output(["busybox", "--list"], text=True).split()) - {"busybox"}:
        (root / "bin" / applet).symlink_to("busybox")
    sh("tar", "-C", root, "--owner=0", "--group=0", "-cf", layer, ".")
    until("registry", lambda: ok("crane", "catalog", "--insecure", REGISTRY))
    sh("crane", "append", "--insecure", "-f", layer, "-t", image, "--oci-empty-base", capture_output=True)
    entrypoint = "/bin/sh,-c,trap 'exit 0' TERM; while :; do sleep 3600 & wait; done"
    options = ("--set-platform", "linux/amd64", "--entrypoint", entrypoint)
    sh("crane", "mutate", "--insecure", image, "-t", image, *options, capture_output=True)


def _wait_for_nodes(cluster: Cluster) -> None:
    """Wait until every node is there, has no taint any more, and pods have a service account."""
    names = " ".join(sorted(f"n{number}" for number in cluster.nodes))
    kubectl = ("kubectl", "--context", cluster.name)
    query = (*kubectl, "get", "nodes", "-o", "jsonpath={.items[*]['metadata.name','spec.taints']}")

    def listed() -> str:
        return subprocess.run(query, capture_output=True, text=True, check=False).stdout

    until(f"nodes of {cluster.name}", lambda: listed() == names, 120)
    until("default service account", lambda: ok(*kubectl, "get", "serviceaccount", "default"))
