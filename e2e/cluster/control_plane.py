"""The control plane of a cluster, in the hub: API server, controllers, scheduler, and DNS."""

from __future__ import annotations

import json
import os

from e2e.cluster.identity import make_signed_certificate, write_kubeconfig
from e2e.cluster.plan import BASE, Cluster
from e2e.cluster.processes import ok, sh, start, until

_API_NAMES = (
    "localhost",
    "kubernetes",
    "kubernetes.default",
    "kubernetes.default.svc",
    "kubernetes.default.svc.cluster.local",
)


def start_control_plane(cluster: Cluster) -> None:
    """Start all of it; return when the API server is ready. KUBECONFIG is then that of this cluster."""
    api = f"{cluster.name}-api"
    addresses = (f"IP:{address}" for address in ("127.0.0.1", cluster.address, cluster.api_service))
    alternatives = ",".join([*(f"DNS:{name}" for name in _API_NAMES), *addresses])
    make_signed_certificate(api, "/O=system:masters/CN=kube-apiserver", f"subjectAltName={alternatives}")
    os.environ["KUBECONFIG"] = admin = _make_user(cluster, cluster.name, f"/O=system:masters/CN=admin-{cluster.name}")
    for node in (f"n{number}" for number in cluster.nodes):
        _make_user(cluster, node, f"/O=system:nodes/CN=system:node:{node}")
    _start_api_server(cluster, api)
    until(f"kube-apiserver of {cluster.name}", lambda: ok("kubectl", "get", "--raw", "/readyz"))
    start(
        f"{cluster.name}-kube-controller-manager",
        "kube-controller-manager",
        f"--kubeconfig={admin}",
        "--leader-elect=false",
        f"--service-account-private-key-file={BASE}/sa.key",
        f"--root-ca-file={BASE}/ca.crt",
        "--use-service-account-credentials",
        "--bind-address=127.0.0.1",
        f"--secure-port={10257 + 10 * cluster.index}",
        "--node-monitor-grace-period=20s",
    )
    start(
        f"{cluster.name}-kube-scheduler",
        "kube-scheduler",
        f"--kubeconfig={admin}",
        "--leader-elect=false",
        "--bind-address=127.0.0.1",
        f"--secure-port={10259 + 10 * cluster.index}",
    )
    _start_dns(cluster)


def _make_user(cluster: Cluster, name: str, subject: str) -> str:
    """Make a user and return the path of its kubeconfig."""
    make_signed_certificate(name, subject, "keyUsage=digitalSignature")
    return write_kubeconfig(f"{name}.kubeconfig", {name: cluster.server})


def _start_api_server(cluster: Cluster, certificate: str) -> None:
    start(
        f"{cluster.name}-kube-apiserver",
        "kube-apiserver",
        "--etcd-servers=http://127.0.0.1:2379",
        f"--etcd-prefix=/registry-{cluster.name}",
        f"--bind-address={cluster.address}",
        "--secure-port=6443",
        f"--advertise-address={cluster.address}",
        f"--tls-cert-file={BASE}/{certificate}.crt",
        f"--tls-private-key-file={BASE}/{certificate}.key",
        f"--client-ca-file={BASE}/ca.crt",
        f"--kubelet-client-certificate={BASE}/{certificate}.crt",
        f"--kubelet-client-key={BASE}/{certificate}.key",
        "--service-account-issuer=https://kubernetes.default.svc",
        f"--service-account-key-file={BASE}/sa.crt",
        f"--service-account-signing-key-file={BASE}/sa.key",
        "--authorization-mode=Node,RBAC",
        "--enable-admission-plugins=NodeRestriction",
        f"--service-cluster-ip-range={cluster.services}",
        "--allow-privileged=true",
        "--kubelet-preferred-address-types=InternalIP",
        "--enable-aggregator-routing",
    )


def _start_dns(cluster: Cluster) -> None:
    """Start CoreDNS in the hub, behind the Service kube-dns, as kubelets tell their pods."""
    corefile = BASE / f"{cluster.name}-Corefile"
    kubernetes = f'kubernetes cluster.local 10.0.0.0/8 {{\n kubeconfig "{BASE}/{cluster.name}.kubeconfig"\n }}'
    corefile.write_text(f".:53 {{\n bind {cluster.address}\n {kubernetes}\n}}\n")
    start(f"{cluster.name}-coredns", "coredns", "-conf", corefile)
    until("namespace kube-system", lambda: ok("kubectl", "get", "namespace", "kube-system"))
    sh("kubectl", "apply", "-f", "-", input=json.dumps(dns_objects(cluster)).encode(), capture_output=True)


def dns_objects(cluster: Cluster) -> dict[str, object]:
    """Return the Service kube-dns and where it leads."""
    metadata = {"name": "kube-dns", "namespace": "kube-system"}
    ports = [{"name": "dns", "port": 53, "protocol": "UDP"}, {"name": "dns-tcp", "port": 53, "protocol": "TCP"}]
    service = {
        "apiVersion": "v1",
        "kind": "Service",
        "metadata": metadata,
        "spec": {"clusterIP": cluster.dns_service, "ports": ports},
    }
    endpoints = {
        "apiVersion": "discovery.k8s.io/v1",
        "kind": "EndpointSlice",
        "metadata": {**metadata, "labels": {"kubernetes.io/service-name": "kube-dns"}},
        "addressType": "IPv4",
        "endpoints": [{"addresses": [cluster.address]}],
        "ports": ports,
    }
    return {"apiVersion": "v1", "kind": "List", "items": [service, endpoints]}
