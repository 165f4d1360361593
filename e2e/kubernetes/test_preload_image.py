"""Image mode: every byte in memory on the selected nodes of two clusters and on no other, and labels that say so."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.command import run
from e2e.kubernetes.manifests import image_pod
from e2e.kubernetes.model import BOTH, Model, Told, labelled, on, unlabel
from e2e.kubernetes.namespace import new_namespace
from e2e.kubernetes.node import Measured, all_files, measured, snapshots


@dataclass(frozen=True)
class Preloaded:
    """A preload of n1 and n3."""

    model: Model
    namespace: str
    memory: Measured

    @property
    def told(self) -> Told:
        told: Told = self.memory.told
        return told


@pytest.fixture(scope="module")
def preloaded(
    new_model: Callable[[], Model], busybox: str, tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Preloaded]:
    """All nodes have the image on disk; what its unpacking left in memory is dropped, then two are preloaded."""
    model = new_model()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a", "b") as (near, far):
        near.apply(image_pod("n1", busybox, model.reference, "n1"))
        near.apply(image_pod("n2", busybox, model.reference, "n2"))
        far.start("pod/n3", image_pod("n3", busybox, model.reference, "n3"))
        near.wait_for("condition=Ready", "pod/n1")
        near.wait_for("condition=Ready", "pod/n2")
        files = {node: all_files(node, *snapshots(node, model.digest)) for node in ("n1", "n2", "n3")}

        def work() -> Told:
            unlabel(model.warm_label, "n1", "n3")
            return model.preload(*BOTH, *on("n1", "n3"), "-n", near.name)

        yield Preloaded(model, near.name, measured(files, ["n1", "n3"], work))


def test_it_ends_well_and_says_that_both_are_warm(preloaded: Preloaded) -> None:
    assert (preloaded.told.status, preloaded.told.states) == (0, {"n1": "Warm", "n3": "Warm"}), preloaded.told.words


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_every_byte_is_in_memory_where_none_was(preloaded: Preloaded, node: str) -> None:
    before, after, _ = preloaded.memory
    files = list(before[node])

    assert len(files) == 11
    assert before[node] == dict.fromkeys(files, 0)
    assert after[node] == dict.fromkeys(files, 1)


def test_on_a_node_that_was_not_selected_nothing_is_in_memory(preloaded: Preloaded) -> None:
    assert set(preloaded.memory.after["n2"].values()) == {0}


def test_the_selected_nodes_are_labelled_as_warm_and_no_others(preloaded: Preloaded) -> None:
    assert labelled(preloaded.model.warm_label) == ["n1", "n3"]
    assert labelled(preloaded.model.disk_label) == []


def test_the_plug_in_of_kubectl_says_how_the_nodes_are(preloaded: Preloaded, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(Path(sys.executable).parent), prepend=":")
    flags = (preloaded.model.reference, "--plain-http", *BOTH, "-n", preloaded.namespace)

    found = run("kubectl", "modelctl", "status", *flags).splitlines()

    assert [line for line in found if "  node/" in line] == [
        "a  node/n1  Ready  warm",
        "a  node/n2  Ready  -",
        "b  node/n3  Ready  warm",
    ]


def test_given_again_it_creates_nothing(preloaded: Preloaded) -> None:
    again = preloaded.model.preload(*BOTH, *on("n1", "n3"), "-n", preloaded.namespace)

    assert (again.status, again.states) == (0, {"n1": "Warm", "n3": "Warm"})
    assert "Waiting" not in again.words
