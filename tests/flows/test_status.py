"""Status: labels and pods of several clusters, and one that does not answer."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from modelctl.core.errors import NotFound, UsageProblem
from modelctl.core.reference import parse_reference
from modelctl.flows import status as status_module
from modelctl.flows.status import ClusterStatus, StatusReport, Where, status, watch_status
from modelctl.packing.artifact import load_artifact
from modelctl.registry.ocidir import OciDir
from tests.fakes.kube_api import Fault, KubeApi, kube_api, kubeconfig
from tests.fakes.registries import Registry
from tests.registries import IMPATIENT, push_to


@pytest.fixture
def api() -> Iterator[KubeApi]:
    with kube_api() as server:
        yield server


@pytest.fixture
def config(api: KubeApi, tmp_path: Path) -> Path:
    """A kubeconfig of two contexts: `a`, the current one, and `dead`, where nobody listens."""
    return kubeconfig(tmp_path / "kubeconfig", {"a": api.url, "dead": "http://127.0.0.1:1"})


@pytest.fixture
def there(plain: Registry, repository: str, packed: Path) -> str:
    push_to(f"oci:{packed}:v1", f"{plain.host}/{repository}:v1")
    return f"{plain.host}/{repository}:v1"


@pytest.fixture
def digests(packed: Path) -> tuple[str, str]:
    """The digests of the manifest and of the weights."""
    artifact = load_artifact(OciDir(packed), OciDir(packed).resolve("v1"))
    return artifact.root.digest, artifact.weights


def node(name: str, *labels: str, ready: str = "True") -> dict[str, Any]:
    return {
        "metadata": {"name": name, "labels": dict.fromkeys(labels, "true")},
        "status": {"conditions": [{"type": "Ready", "status": ready}]},
    }


def pod(name: str, digest: str, namespace: str = "ml") -> dict[str, Any]:
    return {
        "metadata": {
            "name": name,
            "namespace": namespace,
            "labels": {"app.kubernetes.io/managed-by": "modelctl"},
            "annotations": {"modelctl.io/digest": digest},
        },
        "spec": {"nodeName": "n1"},
        "status": {"phase": "Pending"},
    }


def ask(text: str, config: Path, *names: str, namespace: str = "") -> StatusReport:
    return status(parse_reference(text), names, Where(kubeconfig=str(config), namespace=namespace, access=IMPATIENT))


def current(text: str, config: Path, namespace: str = "") -> ClusterStatus:
    (cluster,) = ask(text, config, namespace=namespace).clusters
    return cluster


def test_nodes_say_by_labels_what_they_have(api: KubeApi, config: Path, there: str, digests: tuple[str, str]) -> None:
    disk, warm = (f"{kind}.modelctl.io/{digest[7:23]}" for kind, digest in zip(("disk", "warm"), digests, strict=True))
    api.objects["nodes"] = [node("n1", disk, warm), node("n2", disk), node("n3", ready="Unknown")]
    found = {one.name: (one.ready, one.disk, one.warm) for one in current(there, config).nodes}
    assert found == {"n1": (True, True, True), "n2": (True, True, False), "n3": (False, False, False)}


def test_only_pods_of_the_model_are_shown(api: KubeApi, config: Path, there: str, digests: tuple[str, str]) -> None:
    api.objects["pods"] = [pod("ours", digests[0]), pod("another", "sha256:" + "0" * 64)]
    assert [(one.name, one.state) for one in current(there, config).pods] == [("ours", "Pending")]


def test_pods_of_other_tools_are_not_asked_for(
    api: KubeApi, config: Path, there: str, digests: tuple[str, str]
) -> None:
    stranger = pod("stranger", digests[0])
    stranger["metadata"]["labels"] = {}
    api.objects["pods"] = [stranger]
    assert current(there, config).pods == []


def test_of_one_namespace_only_its_pods_are_shown(
    api: KubeApi, config: Path, there: str, digests: tuple[str, str]
) -> None:
    api.objects["pods"] = [pod("one", digests[0]), pod("two", digests[0], "prod")]
    assert [one.name for one in current(there, config, "prod").pods] == ["two"]


def test_events_explain_a_pod(api: KubeApi, config: Path, there: str, digests: tuple[str, str]) -> None:
    api.objects["pods"] = [pod("ours", digests[0])]
    api.objects["events"] = [
        {
            "metadata": {"namespace": "ml"},
            "type": "Warning",
            "reason": "Failed",
            "message": "Failed to pull image: 401 Unauthorized",
            "involvedObject": {"name": "ours"},
        }
    ]
    (found,) = current(there, config).pods
    assert (found.state, "--pull-secret" in found.hint) == ("ErrImagePull", True)


def test_lists_come_in_pages(api: KubeApi, config: Path, there: str) -> None:
    api.objects["nodes"] = [node(f"n{number}") for number in range(5)]
    assert len(current(there, config).nodes) == 5
    assert sum("/nodes" in path for path in api.requests) == 3


def test_a_cluster_that_does_not_answer_is_said_and_the_other_is_shown(api: KubeApi, config: Path, there: str) -> None:
    api.objects["nodes"] = [node("n1")]
    alive, dead = ask(there, config, "*").clusters
    assert ([one.name for one in alive.nodes], alive.problem) == (["n1"], "")
    assert "cluster dead" in dead.problem


@pytest.mark.parametrize("code", [403, 404, 429, 500])
def test_a_cluster_that_refuses_is_said(api: KubeApi, config: Path, there: str, code: int) -> None:
    api.status = code
    assert f"it answered {code}" in current(there, config).problem


def test_a_token_that_is_not_right_is_said_and_not_shown(api: KubeApi, tmp_path: Path, there: str) -> None:
    config = kubeconfig(tmp_path / "wrong", {"a": api.url}, token="another-token")
    problem = current(there, config).problem
    assert ("401" in problem, "another-token" in problem) == (True, False)


def test_a_context_that_is_not_there_is_refused_with_those_that_are(config: Path, there: str) -> None:
    with pytest.raises(UsageProblem) as refused:
        ask(there, config, "mars")
    assert "a, dead" in refused.value.why


def test_a_kubeconfig_that_is_not_there_is_not_found(tmp_path: Path, there: str) -> None:
    with pytest.raises(NotFound, match="kubeconfig"):
        ask(there, tmp_path / "nope")


class Ended(Exception):
    """What ends a watch here; a user has ^C."""


class Shown:
    """What `watch_status` shows, as it comes; from the `last`-th on it ends."""

    def __init__(self, last: int) -> None:
        self.clusters: list[ClusterStatus] = []
        self._last = last

    def __call__(self, cluster: ClusterStatus) -> None:
        self.clusters.append(cluster)
        if len(self.clusters) >= self._last:
            raise Ended


def watched(
    text: str, config: Path, *names: str, last: int, then: Callable[[], object] = lambda: None
) -> list[ClusterStatus]:
    """Watch until so much was shown; once something was, do something."""
    shown = Shown(last)

    def act() -> None:
        end = time.monotonic() + 10
        while not shown.clusters and time.monotonic() < end:
            time.sleep(0.01)
        then()

    actor = threading.Thread(target=act)
    actor.start()
    with pytest.raises(Ended):
        watch_status(parse_reference(text), names, Where(kubeconfig=str(config), namespace="", access=IMPATIENT), shown)
    actor.join()
    return shown.clusters


@pytest.fixture
def soon(monkeypatch: pytest.MonkeyPatch) -> None:
    """Clusters are looked at often."""
    monkeypatch.setattr(status_module, "TICK_S", 0.05)
    monkeypatch.setattr(status_module, "_LOOK_S", 0.2)


def test_a_watch_shows_at_first_what_is(api: KubeApi, config: Path, there: str) -> None:
    api.objects["nodes"] = [node("n1")]
    (first,) = watched(there, config, last=1)

    assert [one.name for one in first.nodes] == ["n1"]


def test_a_pod_that_changes_is_shown_at_once(api: KubeApi, config: Path, there: str, digests: tuple[str, str]) -> None:
    ready = pod("ours", digests[0])
    ready["status"] = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
    api.put("pods", pod("ours", digests[0]))
    first, second = watched(there, config, last=2, then=lambda: api.put("pods", ready))

    assert [one.pods[0].state for one in (first, second)] == ["Pending", "Ready"]
    assert api.asked("/pods?limit") == 1


@pytest.mark.usefixtures("soon")
def test_a_node_that_changes_is_shown_at_the_next_look(api: KubeApi, config: Path, there: str) -> None:
    api.objects["nodes"] = [node("n1")]
    first, second = watched(there, config, last=2, then=lambda: api.put("nodes", node("n1", ready="Unknown")))

    assert [one.nodes[0].ready for one in (first, second)] == [True, False]


@pytest.mark.usefixtures("soon")
def test_what_does_not_change_is_shown_once(api: KubeApi, config: Path, there: str) -> None:
    api.objects["nodes"] = [node("n1")]

    def later() -> None:
        time.sleep(0.8)
        api.put("nodes", node("n2"))

    assert [len(one.nodes) for one in watched(there, config, last=2, then=later)] == [1, 2]
    assert api.asked("/nodes") > 2


@pytest.mark.usefixtures("soon")
def test_a_cluster_that_stops_to_answer_is_said_and_shown_again_when_it_does(
    api: KubeApi, config: Path, there: str
) -> None:
    api.objects["nodes"] = [node("n1")]

    def refuse() -> None:
        api.faults = [Fault("/nodes", status=403, message="not any more")]

    first, second, third = watched(there, config, last=3, then=refuse)

    assert ("not any more" in second.problem, second.nodes) == (True, [])
    assert third == first


def test_a_dead_cluster_does_not_delay_the_other(api: KubeApi, config: Path, there: str) -> None:
    api.objects["nodes"] = [node("n1")]
    found = {one.context: one for one in watched(there, config, "*", last=2)}

    assert ([one.name for one in found["a"].nodes], "cluster dead" in found["dead"].problem) == (["n1"], True)
