"""Process 1 of a node: its folders, addresses and daemons, until it is killed."""

from __future__ import annotations

import json
import os
from pathlib import Path

from e2e.cluster.groups import make_groups
from e2e.cluster.plan import (
    BASE,
    HUB,
    PODS,
    PRIVATE_REGISTRY,
    REGISTRY,
    Cluster,
    clusters_of_run,
    group_of_run,
    node_address,
    pod_addresses,
)
from e2e.cluster.processes import ip, keep_alive, ok, resolve_with, sh, start, until

OWN = ("/var/lib/kubelet", "/var/lib/cni", "/var/log", "/etc/cni", "/etc/containerd")
ON_DISK = ("/var/lib/containerd", "/var/lib/modelctl")
"""What lies on the disk of a node that was given one."""

_CONTAINERD = f"""\
version = 3
[plugins.'io.containerd.cri.v1.images']
  pinned_images.sandbox = '{REGISTRY}/test/busybox:1'
  registry.config_path = '/etc/containerd/certs.d'
[plugins.'io.containerd.cri.v1.runtime']
  restrict_oom_score_adj = true
  cni.bin_dirs = ['/usr/lib/cni']
"""


def run_node(number: int) -> None:
    """Be process 1 of node `number`; never returns."""
    name, cluster = f"n{number}", next(cluster for cluster in clusters_of_run() if number in cluster.nodes)
    home = BASE / name
    os.environ["HOME"] = str(home)
    Path("/proc/sys/kernel/hostname").write_text(name)
    _mount_folders(home)
    resolve_with(home / "resolv.conf", cluster.address)
    sh("mount", "-t", "tmpfs", "tmpfs", "/run")
    sh("mount", "--make-rshared", "/")
    group = f"{group_of_run()}/{name}"
    make_groups(group)
    _join_network(number)
    _start_containerd(number)
    _start_kubelet(number, cluster, f"/{group}")
    _start_kube_proxy(name, cluster)
    keep_alive()


def _mount_folders(home: Path) -> None:
    (home / "disk").mkdir(exist_ok=True)
    if (home / "disk.ext4").exists():
        sh("mount", "-o", "loop", home / "disk.ext4", home / "disk")
    for path in OWN + ON_DISK:
        folder = (home / "disk" if path in ON_DISK else home) / path.strip("/").replace("/", "-")
        folder.mkdir(parents=True, exist_ok=True)
        Path(path).mkdir(parents=True, exist_ok=True)
        sh("mount", "--bind", folder, path)


def _join_network(number: int) -> None:
    until(f"link of n{number}", lambda: ok("ip", "link", "show", "eth0"))
    ip(
        "link set lo up",
        "link set eth0 up",
        f"addr add {node_address(number)}/24 dev eth0",
        f"route add default via {HUB}",
    )
    for other in (node for cluster in clusters_of_run() for node in cluster.nodes if node != number):
        ip(f"route add {pod_addresses(other)} via {node_address(other)}")
    sh("sysctl", "-qw", "net.ipv4.ip_forward=1", "net.ipv4.conf.all.route_localnet=1")


def _start_containerd(number: int) -> None:
    bridge = {"type": "bridge", "bridge": "cni0", "isGateway": True, "hairpinMode": True}
    addresses = {"ranges": [[{"subnet": pod_addresses(number)}]], "routes": [{"dst": "0.0.0.0/0"}]}
    plugins = [
        bridge | {"ipam": {"type": "host-local", **addresses}},
        {"type": "portmap", "capabilities": {"portMappings": True}},
    ]
    Path("/etc/cni/net.d").mkdir(exist_ok=True)
    _write_json(Path("/etc/cni/net.d/10-bridge.conflist"), {"cniVersion": "1.0.0", "name": "pods", "plugins": plugins})
    for registry in (REGISTRY, PRIVATE_REGISTRY):
        hosts = Path("/etc/containerd/certs.d", registry)
        hosts.mkdir(parents=True, exist_ok=True)
        (hosts / "hosts.toml").write_text(f'[host."http://{registry}"]\n  capabilities = ["pull", "resolve"]\n')
    Path("/etc/containerd/config.toml").write_text(_CONTAINERD)
    start(f"n{number}-containerd", "containerd")
    until(f"containerd of n{number}", lambda: ok("ctr", "version"))


def _start_kubelet(number: int, cluster: Cluster, group: str) -> None:
    name = f"n{number}"
    config = _write_json(BASE / name / "kubelet.json", kubelet_config(name, cluster, group))
    start(
        f"{name}-kubelet",
        *("kubelet", "--config", config, "--kubeconfig", BASE / f"{name}.kubeconfig"),
        *("--hostname-override", name, "--node-ip", node_address(number), "--v=2"),
    )


def kubelet_config(name: str, cluster: Cluster, group: str) -> dict[str, object]:
    """Return the configuration of the kubelet of node `name`, whose pods live in the cgroup `group`."""
    return {
        "apiVersion": "kubelet.config.k8s.io/v1beta1",
        "kind": "KubeletConfiguration",
        "authentication": {
            "anonymous": {"enabled": False},
            "webhook": {"enabled": True},
            "x509": {"clientCAFile": f"{BASE}/ca.crt"},
        },
        "authorization": {"mode": "Webhook"},
        "cgroupDriver": "cgroupfs",
        "cgroupRoot": group,
        "clusterDNS": [cluster.dns_service],
        "clusterDomain": "cluster.local",
        "containerRuntimeEndpoint": "unix:///run/containerd/containerd.sock",
        "enforceNodeAllocatable": [],
        "evictionHard": {
            "memory.available": "10Mi",
            "nodefs.available": "1%",
            "imagefs.available": "1%",
            "nodefs.inodesFree": "1%",
        },
        "evictionPressureTransitionPeriod": "5s",
        "failCgroupV1": False,
        "failSwapOn": False,
        "imageGCHighThresholdPercent": 99,
        "imageGCLowThresholdPercent": 98,
        "nodeStatusUpdateFrequency": "5s",
        "oomScoreAdj": 0,
        "registerWithTaints": [],
        "resolvConf": f"{BASE}/{name}/resolv.conf",
        "serializeImagePulls": False,
    }


def _start_kube_proxy(name: str, cluster: Cluster) -> None:
    document = {
        "apiVersion": "kubeproxy.config.k8s.io/v1alpha1",
        "kind": "KubeProxyConfiguration",
        "clientConnection": {"kubeconfig": f"{BASE}/{cluster.name}.kubeconfig"},
        "clusterCIDR": PODS,
        "conntrack": {"maxPerCore": 0, "min": 0, "tcpEstablishedTimeout": "0s", "tcpCloseWaitTimeout": "0s"},
        "hostnameOverride": name,
        "metricsBindAddress": "127.0.0.1:10249",
        "mode": "nftables",
    }
    start(f"{name}-kube-proxy", "kube-proxy", "--config", _write_json(BASE / name / "kube-proxy.json", document))


def _write_json(path: Path, document: object) -> Path:
    path.write_text(json.dumps(document))
    return path
