"""Holders: Ready once all is in memory, asked for figures, on new nodes too, and labels that follow."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from dataclasses import dataclass

import pytest

from e2e.kubernetes.model import BOTH, Model, Told, labelled, on
from e2e.kubernetes.namespace import Namespace, kubectl, new_namespace
from e2e.kubernetes.node import drop_from_page_cache, node_exec, resident, snapshots, weight_files


@dataclass(frozen=True)
class Held:
    """A model that is held on the nodes of a pool: n1 and n2 in cluster a, none yet in b."""

    model: Model
    pool: str
    near: Namespace
    far: Namespace
    told: Told

    @property
    def flags(self) -> tuple[str, ...]:
        return (*BOTH, "-l", f"pool={self.pool}", "-n", self.near.name)


@pytest.fixture(scope="module")
def held(new_model: Callable[[], Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Held]:
    model = new_model()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a", "b") as (near, far):
        kubectl("label", "node", "n1", "n2", f"pool={near.name}", "--overwrite")
        told = model.preload(*BOTH, "-l", f"pool={near.name}", "-n", near.name, "--hold")
        yield Held(model, near.name, near, far, told)


def ask(held: Held, path: str) -> str:
    """Ask the holder of one node, through the API server."""
    pod = held.near.get("pods")[0]["metadata"]["name"]
    return kubectl("get", "--raw", f"/api/v1/namespaces/{held.near.name}/pods/{pod}:9464/proxy{path}")


def test_nodes_are_held_by_pods_that_a_restricted_namespace_takes(held: Held) -> None:
    assert (held.told.status, held.told.states) == (0, {"n1": "Held", "n2": "Held"}), held.told.words
    (holder,) = held.near.get("daemonsets")
    assert holder["status"]["numberReady"] == 2
    assert held.near.get("jobs") == []


def test_what_is_held_does_not_leave_memory_when_it_is_dropped(held: Held) -> None:
    files = weight_files("n1", snapshots("n1", held.model.digest))
    drop_from_page_cache("n1", *files)

    held.near.until("all in memory", lambda: "all" if set(resident("n1", files).values()) == {1} else "")


def test_a_holder_answers_with_figures(held: Held) -> None:
    figures = dict(line.split() for line in ask(held, "/metrics").splitlines() if not line.startswith("#"))

    assert figures["modelctl_resident_bytes"] == figures["modelctl_model_bytes"]
    assert float(figures["modelctl_model_bytes"]) > 4_000_000
    assert ask(held, "/healthz").startswith("looked ")


def test_given_again_it_says_that_they_are_held(held: Held) -> None:
    again = held.model.preload(*held.flags, "--hold")

    assert (again.status, again.states) == (0, {"n1": "Held", "n2": "Held"})
    assert "Waiting" not in again.words


def test_a_dry_run_labels_no_node(held: Held) -> None:
    kubectl("label", "node", "n1", f"{held.model.warm_label}-")
    held.model.preload(*held.flags, "--dry-run=client")
    dry = labelled(held.model.warm_label)
    held.model.fix(*BOTH, "-n", held.near.name)

    assert "n1" not in dry
    assert "n1" in labelled(held.model.warm_label)


def test_to_unload_fewer_nodes_than_a_holder_has_is_refused_and_changes_nothing(held: Held) -> None:
    told = held.model.unload(*on("n1"), "-n", held.near.name)

    assert told.status == 9
    assert "it holds the model on n2 too, which the selector leaves out" in told.words
    assert "n1" in labelled(held.model.warm_label)
    assert len(held.near.get("daemonsets")) == 1


def test_a_node_that_joins_is_warmed_by_the_holder_and_labelled_by_status_fix(held: Held) -> None:
    kubectl("--context", "b", "label", "node", "n3", f"pool={held.pool}", "--overwrite")
    held.far("rollout", "status", f"daemonset/hold-{held.model.short}", "--timeout=60s")
    before = labelled(held.model.warm_label)
    told = held.model.fix(*BOTH, "-n", held.near.name)

    assert "n3" not in before
    assert (told.status, told.states["n3"]) == (0, "warm")
    assert "n3" in labelled(held.model.warm_label)


def test_all_that_was_made_is_the_clis_by_its_field_manager(held: Held) -> None:
    holder = json.loads(held.near("get", "daemonsets", "-o", "json", "--show-managed-fields"))["items"][0]
    managers = {found["manager"] for found in holder["metadata"]["managedFields"] if found["operation"] == "Apply"}

    assert managers == {"modelctl"}
    assert holder["metadata"]["labels"]["app.kubernetes.io/managed-by"] == "modelctl"


def test_what_is_unloaded_is_planned_anew_though_its_holder_has_not_ended(held: Held) -> None:
    """It comes last. A holder takes a while to end: one that was stopped does not."""
    signal_holder("n1", "STOP")
    told = held.model.unload(*held.flags)
    planned = held.model.preload(*on("n1"), "-n", held.near.name, "--dry-run=client")
    signal_holder("n1", "CONT")

    assert (told.status, set(told.states.values())) == (0, {"Unloaded"}), told.words
    assert held.near.get("daemonsets") == held.far.get("daemonsets") == []
    assert planned.states == {"n1": "Fit"}


def signal_holder(node: str, signal: str) -> None:
    node_exec(node, "sh", "-c", f"kill -{signal} $(pgrep -f '[n]ode warm /model')")
