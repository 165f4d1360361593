"""What a preload runs, what it leaves behind without --wait, and what it only would run."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any

import pytest

from e2e.kubernetes.model import Model, Told, labelled, on
from e2e.kubernetes.namespace import Namespace, new_namespace


@dataclass(frozen=True)
class Started:
    """A preload that nobody waited for, and its pod when it had ended."""

    model: Model
    namespace: Namespace
    told: Told
    pod: Any


@pytest.fixture(scope="module")
def started(new_model: Callable[[], Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Started]:
    model = new_model()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        told = model.preload(*on("n1"), "-n", namespace.name, "--no-wait")
        (job,) = namespace.get("jobs")
        namespace.wait_for("condition=Complete", f"job/{job['metadata']['name']}")
        (pod,) = namespace.get("pods")
        yield Started(model, namespace, told, pod)


def test_a_restricted_namespace_takes_the_pod_and_it_ends_well(started: Started) -> None:
    assert (started.told.status, started.told.states) == (0, {"n1": "Started"})
    assert started.pod["status"]["phase"] == "Succeeded"


def test_the_pod_has_the_image_and_nothing_else_of_its_node_or_of_the_cluster(started: Started) -> None:
    (volume,) = started.pod["spec"]["volumes"]
    assert volume == {"name": "model", "image": {"reference": started.model.reference, "pullPolicy": "IfNotPresent"}}
    assert started.pod["spec"]["automountServiceAccountToken"] is False
    assert started.namespace.get("roles,rolebindings") == []
    assert [account["metadata"]["name"] for account in started.namespace.get("serviceaccounts")] == ["default"]


def test_the_pod_says_what_it_measured(started: Started) -> None:
    (status,) = started.pod["status"]["containerStatuses"]
    words = json.loads(status["state"]["terminated"]["message"])

    assert words["size"] == words["resident"] > 4_000_000


def test_given_again_the_command_labels_the_node_and_removes_the_job(started: Started) -> None:
    before = labelled(started.model.warm_label)
    again = started.model.preload(*on("n1"), "-n", started.namespace.name)

    assert (again.status, again.states) == (0, {"n1": "Warm"}), again.words
    assert (before, labelled(started.model.warm_label)) == ([], ["n1"])
    assert started.namespace.get("jobs") == []


@pytest.fixture(scope="module")
def model(new_model: Callable[[], Model]) -> Model:
    """One that no node has."""
    return new_model()


def test_a_dry_run_creates_nothing_and_the_api_server_takes_what_it_says(model: Model, namespace: Namespace) -> None:
    objects = model.objects(*on("n1", "n2"), "-n", namespace.name, "--hold")
    taken = namespace.apply(json.dumps({"apiVersion": "v1", "kind": "List", "items": objects}), "--dry-run=server")

    assert [found["kind"] for found in objects] == ["Job", "Job", "DaemonSet"]
    assert taken.count("created (server dry run)") == 3
    assert namespace.get("jobs,daemonsets,pods") == []
    assert labelled(model.warm_label) == []


def test_a_dry_run_on_the_server_creates_nothing(model: Model, namespace: Namespace) -> None:
    told = model.preload(*on("n1", "n2"), "-n", namespace.name, "--hold", "--dry-run=server")

    assert (told.status, told.states) == (0, {"n1": "Fit", "n2": "Fit"})
    assert namespace.get("jobs,daemonsets,pods") == []


def test_a_dry_run_on_the_server_says_what_admission_refuses(model: Model, namespace: Namespace) -> None:
    namespace("create", "quota", "none", "--hard=count/jobs.batch=0")
    namespace.wait_for("jsonpath={.status.hard}", "quota/none")

    told = model.preload(*on("n1"), "-n", namespace.name, "--dry-run=server")

    assert (told.status, told.states) == (9, {"n1": "Failed"})
    assert "exceeded quota: none" in told.words
