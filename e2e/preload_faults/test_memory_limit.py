"""A LimitRange that gives pods less memory than the model takes."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.kubernetes.manifests import image_pod
from e2e.kubernetes.model import Told, on
from e2e.kubernetes.namespace import Namespace, new_namespace
from e2e.kubernetes.node import all_files, drop_from_page_cache, snapshots
from e2e.preload_faults.model import Model

SHARD = 50_000_000
CAP = 80 << 20
"""Less than the model, and enough for Python [bytes]."""


@dataclass(frozen=True)
class Scenario:
    """A preload under a LimitRange, the last words of its pod, the labels that it left; and one without."""

    model: Model
    namespace: str
    capped: Told
    words: dict[str, Any]
    left: set[str]
    again: Told


@pytest.fixture(scope="module")
def scenario(new_model: Callable[..., Model], busybox: str, tmp_path_factory: pytest.TempPathFactory) -> Scenario:
    """Under cgroup v1 pages count against who brought them first: those that unpacking brought are dropped."""
    model = new_model(SHARD)
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        namespace.start("pod/reader", image_pod("reader", busybox, model.reference, "n1"))
        drop_from_page_cache("n1", *all_files("n1", *snapshots("n1", model.digest)))
        namespace("delete", "pod", "reader", "--now")
        namespace.apply(limit_range({"default": {"memory": str(CAP)}}))
        capped = model.preload(*on("n1"), "-n", namespace.name)
        (pod,) = model.pods()
        words = json.loads(pod["status"]["containerStatuses"][0]["state"]["terminated"]["message"])
        left = model.labels("n1")
        namespace("delete", "limitrange", "cap")
        again = model.preload(*on("n1"), "-n", namespace.name)
    return Scenario(model, namespace.name, capped, words, left, again)


def test_the_pods_limit_is_enforced(scenario: Scenario) -> None:
    assert scenario.words["error"]["why"].endswith(f"the container may use {CAP}")
    assert scenario.words["resident"] < CAP < scenario.words["size"]


def test_it_ends_with_9_and_says_who_set_which_limit_and_how_large_the_model_is(scenario: Scenario) -> None:
    assert (scenario.capped.status, scenario.capped.states, scenario.left) == (9, {"n1": "Failed"}, set())
    said = scenario.capped.words.partition("partial: 1 node not warm")[2]
    assert f"a LimitRange of namespace {scenario.namespace} gave container warm a memory limit of 80 MiB" in said
    assert "the model's 95 MiB count against it" in said
    assert f"kubectl -n {scenario.namespace} describe limitrange" in said


def test_without_it_the_same_command_goes_on(scenario: Scenario) -> None:
    assert (scenario.again.status, scenario.again.states) == (0, {"n1": "Warm"}), scenario.again.words
    assert (scenario.model.labels("n1"), scenario.model.jobs()) == ({"warm"}, [])


def test_one_that_allows_less_than_the_pod_requests_is_named_and_without_it_the_pod_starts(
    model: Model, namespace: Namespace
) -> None:
    namespace.apply(limit_range({"max": {"memory": "48Mi"}}))
    with model.preloading(*on("n1"), "-n", namespace.name) as run:
        line = run.until("describe limitrange")
        namespace("delete", "limitrange", "cap")
        found = run.ended()

    assert "a  n1  Waiting" in line
    assert "must be less than or equal to memory limit of 48Mi" in line
    assert (found.status, model.labels("n1"), model.jobs()) == (0, {"warm"}, []), found.stderr


def limit_range(memory: dict[str, Any]) -> str:
    limits = [{"type": "Container", **memory}]
    document = {"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "cap"}, "spec": {"limits": limits}}
    return json.dumps(document)
