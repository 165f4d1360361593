"""Preload 100 nodes of a real API server: how many requests, how many seconds, how much CPU of modelctl.

    e2e/cluster/cluster run --nodes 1 -- python -m e2e.bench.preload

The nodes are objects without a machine: real controllers make and bind the pods, and a patcher ends each as a kubelet
would. modelctl goes through a proxy that counts, as a user who has the rights of docs/preload.md and no others.
"""

from __future__ import annotations

import datetime
import json
import os
import re
import subprocess
import tempfile
import threading
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from pathlib import Path
from typing import Any

from kubernetes import client, config, watch
from rich.console import Console
from rich.table import Table
from urllib3.exceptions import HTTPError

from e2e.bench.counting import Proxy, counting
from e2e.command import MODELCTL, run
from tests.fakes.registries import free_port
from tests.models import write_model

NODES = int(os.environ.get("BENCH_NODES", "100"))
PARALLELISM = (50, 100)
_SPACE, _USER, _LABEL = "bench-preload", "bench-preloader", "bench=preload"
_HEARTBEAT_S = 6.0

_KINDS = {
    "stats": r"GET \S+/proxy/stats",
    "watches": r"GET \S+[?&]watch=true",
    "events": r"GET \S+/events",
    "Jobs asked for": r"GET \S+/jobs/",
    "lists": r"GET /api/v1/(nodes|\S+/pods)",
    "applies": r"PATCH \S+&force=true",
    "label patches": r"PATCH /api/v1/nodes/",
    "deletes": r"DELETE ",
    "other": "",
}
"""What a request is for: the first expression that its line begins with."""

_RIGHTS = [
    {"apiGroups": [""], "resources": ["nodes", "pods", "events"], "verbs": ["list", "watch"]},
    {
        "apiGroups": ["batch", "apps"],
        "resources": ["jobs", "daemonsets"],
        "verbs": ["get", "create", "patch", "delete"],
    },
    {"apiGroups": [""], "resources": ["nodes"], "verbs": ["patch"]},
]


def kind_of(request: str) -> str:
    return next(kind for kind, pattern in _KINDS.items() if re.match(pattern, request))


def main() -> None:
    config.load_kube_config()
    registry = os.environ["CLUSTER_REGISTRY"]
    figures: dict[str, Any] = {}
    with tempfile.TemporaryDirectory(prefix="bench-preload-") as folder:
        model = write_model(Path(folder, "model"), shards=2, size=1000)
        size = sum(path.stat().st_size for path in model.iterdir())
        reference = f"{registry}/bench/preload:v1"
        run(MODELCTL, "pack", model, reference, "--plain-http", "-q")
        _allow()
        with fake_nodes(), ended_pods(size), kubectl_proxy() as port, counting(("127.0.0.1", port)) as proxy:
            kubeconfig = _kubeconfig(Path(folder, "kubeconfig"), proxy)
            for parallelism in PARALLELISM:
                figures[f"parallelism {parallelism}"] = _preload(reference, kubeconfig, parallelism, proxy)
                run(MODELCTL, "unload", reference, "--plain-http", "-l", _LABEL, "-n", _SPACE, "-q")
    _show(figures)
    Path("build").mkdir(exist_ok=True)
    Path("build/bench-preload.json").write_text(json.dumps(figures, indent=2))


def _preload(reference: str, kubeconfig: Path, parallelism: int, proxy: Proxy) -> dict[str, float]:
    """Preload all nodes; return seconds, CPU seconds of modelctl, and requests by kind."""
    proxy.requests.clear()
    command = [MODELCTL, "preload", reference, "--plain-http", "-l", _LABEL, "-n", _SPACE, "--mode", "image"]
    command += ["--image", "registry.example/modelctl:1", "--kubeconfig", str(kubeconfig), "--timeout", "5m"]
    started = time.monotonic()
    with subprocess.Popen(
        [*command, "--parallelism", str(parallelism), "-q"], stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        lines = process.stdout.read().splitlines()
        _, status, usage = os.wait4(process.pid, 0)
        process.returncode = status
    warm = sum(" Warm " in line for line in lines)
    if status or warm != NODES:
        raise SystemExit(f"bench: {warm} of {NODES} nodes are warm, status {status}: {lines[:3]}")
    kinds = Counter(map(kind_of, proxy.requests))
    return {
        "seconds": time.monotonic() - started,
        "CPU s": usage.ru_utime + usage.ru_stime,
        "requests": len(proxy.requests),
        "requests per node": len(proxy.requests) / NODES,
        **{kind: kinds[kind] for kind in _KINDS},
    }


def _show(figures: dict[str, dict[str, float]]) -> None:
    table = Table(title=f"modelctl preload of {NODES} nodes", title_justify="left")
    table.add_column("")
    for name in figures:
        table.add_column(name, justify="right")
    for row in next(iter(figures.values())):
        table.add_row(row, *(f"{found[row]:.2f}".removesuffix(".00") for found in figures.values()))
    Console(width=100).print(table)


def _allow() -> None:
    """Make the namespace, and the user with the rights."""
    client.CoreV1Api().create_namespace({"metadata": {"name": _SPACE}})
    rights = client.RbacAuthorizationV1Api()
    rights.create_cluster_role({"metadata": {"name": _USER}, "rules": _RIGHTS})
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "ClusterRole", "name": _USER}
    subjects = [{"apiGroup": "rbac.authorization.k8s.io", "kind": "User", "name": _USER}]
    rights.create_cluster_role_binding({"metadata": {"name": _USER}, "roleRef": role, "subjects": subjects})


def _kubeconfig(path: Path, proxy: Proxy) -> Path:
    inside = {"cluster": "bench", "user": "bench"}
    document = {
        "apiVersion": "v1",
        "kind": "Config",
        "current-context": "bench",
        "clusters": [{"name": "bench", "cluster": {"server": proxy.url}}],
        "users": [{"name": "bench", "user": {}}],
        "contexts": [{"name": "bench", "context": inside}],
    }
    path.write_text(json.dumps(document))
    return path


@contextmanager
def kubectl_proxy() -> Iterator[int]:
    """Serve the API on a port of loopback, as the user; yield the port."""
    port = free_port()
    with subprocess.Popen(["kubectl", "proxy", f"--port={port}", f"--as={_USER}"], stdout=subprocess.PIPE) as process:
        try:
            assert process.stdout
            process.stdout.readline()
            yield port
        finally:
            process.terminate()


@contextmanager
def fake_nodes() -> Iterator[None]:
    """Make nodes, keep them ready by renewing their Leases, and remove them."""
    core, leases, stop = client.CoreV1Api(), client.CoordinationV1Api(), threading.Event()
    names = [f"bench-{number:03}" for number in range(NODES)]
    labels = dict([_LABEL.split("=")])
    capacity = {"cpu": "64", "memory": "512Gi", "pods": "110"}
    with ThreadPoolExecutor(4) as pool:

        def make(name: str) -> None:
            ready = {"type": "Ready", "status": "True", "reason": "Bench", "lastHeartbeatTime": _now()}
            status = {"capacity": capacity, "allocatable": capacity, "conditions": [ready]}
            core.create_node({"metadata": {"name": name, "labels": labels}, "status": status})
            spec = {"holderIdentity": name, "leaseDurationSeconds": 40, "renewTime": _now()}
            leases.create_namespaced_lease("kube-node-lease", {"metadata": {"name": name}, "spec": spec})

        def renew(name: str) -> None:
            leases.patch_namespaced_lease(name, "kube-node-lease", {"spec": {"renewTime": _now()}})

        def keep() -> None:
            while not stop.wait(_HEARTBEAT_S):
                list(pool.map(renew, names))

        list(pool.map(make, names))
        keeper = threading.Thread(target=keep)
        keeper.start()
        try:
            while any(node.spec.taints for node in core.list_node(label_selector=_LABEL).items):
                time.sleep(0.5)
            yield
        finally:
            stop.set()
            keeper.join()
            list(pool.map(core.delete_node, names))


def _now() -> str:
    return datetime.datetime.now(tz=datetime.UTC).isoformat(timespec="microseconds").replace("+00:00", "Z")


@contextmanager
def ended_pods(size: int) -> Iterator[None]:
    """End every pod that is bound to a node, as a kubelet does after `node warm`."""
    core, told, over = client.CoreV1Api(), watch.Watch(), threading.Event()
    with ThreadPoolExecutor(8) as pool:

        def end(pod: Any) -> None:
            (container,) = pod.spec.containers
            table = container.args[container.args.index("--table") + 1]
            said = json.dumps({"table": table, "files": 4, "size": size, "resident": size})
            state = {"terminated": {"exitCode": 0, "reason": "Completed", "message": said}}
            state["terminated"] |= {"startedAt": _now(), "finishedAt": _now()}
            statuses = [{"name": "warm", "image": "", "imageID": "", "ready": False, "restartCount": 0, "state": state}]
            body = {"status": {"phase": "Succeeded", "containerStatuses": statuses}}
            core.patch_namespaced_pod_status(pod.metadata.name, _SPACE, body)

        def play() -> None:
            ended = set()
            while not over.is_set():
                with suppress(HTTPError, client.ApiException):  # a young server's watch, and the program's end
                    for event in told.stream(core.list_namespaced_pod, _SPACE):
                        pod = event["object"]
                        if pod.spec.node_name and pod.metadata.uid not in ended and event["type"] != "DELETED":
                            ended.add(pod.metadata.uid)
                            pool.submit(end, pod)
                over.wait(0.2)

        threading.Thread(target=play, daemon=True).start()
        try:
            yield
        finally:
            over.set()
            told.stop()


if __name__ == "__main__":
    main()
