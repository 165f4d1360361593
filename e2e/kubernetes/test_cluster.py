"""The cluster itself: its nodes talk to each other, lose power, and come back."""

from __future__ import annotations

from pathlib import Path

import pytest

from e2e.command import CommandFailed, files, run
from e2e.kubernetes.manifests import image_pod, pack, web_server
from e2e.kubernetes.namespace import Namespace
from e2e.kubernetes.node import node_exec
from tests.models import write_model


def test_pods_of_all_nodes_answer_by_their_services_names(namespace: Namespace, busybox: str) -> None:
    namespace.apply(web_server("web", busybox))
    namespace("rollout", "status", "daemonset/web", "--timeout=60s")

    def both() -> str:
        found = namespace.shell(
            "daemonset/web", f"nslookup web-pods.{namespace.name}.svc.cluster.local || true"
        ).split()
        pods = [word for word in found if word.startswith("10.91.")]
        return " ".join(pods) if len(pods) == 2 else ""

    pods = namespace.until("the addresses of two pods", both).split()
    assert sorted(run("busybox", "wget", "-qO-", f"http://{pod}:8080") for pod in pods) == ["n1\n", "n2\n"]
    assert namespace.shell("daemonset/web", "wget -qO- http://web") in ("n1\n", "n2\n")


def test_a_node_comes_back_from_a_power_failure_and_its_pod_reads_the_model_again(
    namespace: Namespace, registry: str, busybox: str, tmp_path: Path
) -> None:
    model = write_model(tmp_path / "model", seed=2)
    reference = pack(model, f"{registry}/models/power:v1")
    namespace.start("pod/reader", image_pod("reader", busybox, reference, "n2"))
    node_exec("n2", "touch", "/var/lib/modelctl/kept")

    run("cluster", "kill", "n2")
    run("cluster", "start", "n2")

    namespace.wait_for("jsonpath={.status.containerStatuses[0].restartCount}=1", "pod/reader")
    namespace.wait_for("condition=Ready", "pod/reader")
    assert namespace.files("pod/reader", "/model").items() >= files(model).items()
    assert node_exec("n2", "ls", "/var/lib/modelctl/kept") == "/var/lib/modelctl/kept\n"


def test_a_daemon_that_dies_is_started_again(namespace: Namespace) -> None:
    before = node_exec("n1", "pidof", "kubelet").strip()
    node_exec("n1", "kill", "-9", before)

    assert namespace.until(
        "another kubelet", lambda: node_exec("n1", "sh", "-c", f"pidof kubelet | grep -v -w {before} || true")
    )


def test_a_command_on_a_node_gives_its_status_back() -> None:
    with pytest.raises(CommandFailed, match="ended with 7"):
        node_exec("n1", "sh", "-c", "exit 7")
