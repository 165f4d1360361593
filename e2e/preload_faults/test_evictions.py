"""Pods that are taken away in the middle of a preload: others take their place, and evictions are not counted."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

import pytest

from e2e.command import run
from e2e.kubernetes.model import on
from e2e.kubernetes.namespace import Namespace, kubectl
from e2e.preload_faults.model import Model
from e2e.preload_faults.pull_secret import PullSecret
from e2e.preload_faults.trouble import on_disk, slow_network, wait_until

pytestmark = pytest.mark.timeout(600)


@pytest.fixture
def secret(namespace: Namespace, private_registry: str) -> PullSecret:
    """One that is not there: the pods that name it wait for their image."""
    return PullSecret(namespace.name, "hub", private_registry)


def flags(node: str, secret: PullSecret) -> tuple[str, ...]:
    return *on(node), "-n", secret.namespace, "--pull-secret", secret.name


def pod_of(model: Model) -> Any:
    """Wait for a pod of the model that its node has begun with, and return it."""
    wait_until("a pod", lambda: any(waiting_or_running(pod) for pod in model.pods()))
    return next(pod for pod in model.pods() if waiting_or_running(pod))


def waiting_or_running(pod: Any) -> bool:
    """Say whether the first container of a pod runs, or its image has been asked for in vain."""
    statuses = pod["status"].get("initContainerStatuses") or pod["status"].get("containerStatuses") or [{}]
    state = statuses[0].get("state", {})
    return "running" in state or "Image" in state.get("waiting", {}).get("reason", "")


def evict(pod: Any) -> None:
    """Do as kubectl drain does to each pod of a node."""
    metadata = {key: pod["metadata"][key] for key in ("name", "namespace")}
    eviction = json.dumps({"apiVersion": "policy/v1", "kind": "Eviction", "metadata": metadata})
    path = f"/api/v1/namespaces/{metadata['namespace']}/pods/{metadata['name']}/eviction"
    run("sh", "-c", f"echo '{eviction}' | kubectl create --raw {path} -f -")


@contextmanager
def drained() -> Iterator[None]:
    kubectl("drain", "n2", "--ignore-daemonsets", "--force", "--timeout=60s")
    try:
        yield
    finally:
        kubectl("uncordon", "n2")


def failures(model: Model) -> int:
    """Return how many its Job has counted, when another pod has begun."""
    pod_of(model)
    (job,) = model.jobs()
    return int(job["status"].get("failed", 0))


def test_one_that_somebody_deletes(private: Model, secret: PullSecret) -> None:
    with private.preloading(*flags("n1", secret)) as preload:
        kubectl("-n", secret.namespace, "delete", "pod", pod_of(private)["metadata"]["name"])
        secret.make()
        found = preload.ended()

    assert (found.status, private.labels("n1"), private.jobs()) == (0, {"warm"}, []), found.stderr


def test_one_that_is_evicted_while_it_pulls_and_the_next_goes_on_with_what_is_there(
    n2: None, new_model: Callable[..., Model]
) -> None:
    model = new_model(10_000_000)
    with model.preloading(*on("n2"), "--mode", "host") as preload:
        with slow_network("n2", "20mbit"):
            wait_until("a part", lambda: on_disk("n2", model.partial) > 1 << 20)
            evict(pod_of(model))
            line = preload.until("n2  Retrying")
            kept = on_disk("n2", model.partial)
        counted = failures(model)
        found = preload.ended()

    assert "node n2 is being drained: wait, or leave it out" in line
    assert kept > 1 << 20
    assert counted == 0
    assert (found.status, model.labels("n2"), model.jobs()) == (0, {"disk", "warm"}, []), found.stderr


def test_one_whose_node_is_drained_and_the_next_waits_until_it_is_uncordoned(
    n2: None, private: Model, secret: PullSecret
) -> None:
    with private.preloading(*flags("n2", secret)) as preload:
        pod_of(private)
        with drained():
            line = preload.until("n2  Waiting .*uncordon")
        counted = failures(private)
        secret.make()
        found = preload.ended()

    assert "--tolerations node.kubernetes.io/unschedulable:NoSchedule" in line
    assert counted == 0
    assert (found.status, private.labels("n2"), private.jobs()) == (0, {"warm"}, []), found.stderr
