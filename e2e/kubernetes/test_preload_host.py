"""Host mode: the files of a model on the disks of the selected nodes of two clusters, and in their memory."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

import pytest

from e2e.command import files
from e2e.kubernetes.model import BOTH, Model, Told, labelled, on, unlabel
from e2e.kubernetes.namespace import Namespace
from e2e.kubernetes.node import Measured, all_files, contents, images, measured, models


@dataclass(frozen=True)
class Preloaded:
    """A preload of n1 and n3, what lay there then, and one more after their memory was taken away."""

    model: Model
    told: Told
    contents: dict[str, dict[str, str]]
    memory: Measured


@pytest.fixture(scope="module")
def preloaded(new_model: Callable[[], Model]) -> Preloaded:
    model = new_model()
    flags = (*BOTH, *on("n1", "n3"), "--mode", "host")
    told = model.preload(*flags)
    found = {node: contents(node, model.on_disk) for node in ("n1", "n3")}
    paths = {node: all_files(node, model.on_disk) for node in found}

    def work() -> Told:
        unlabel(model.warm_label, "n1", "n3")
        return model.preload(*flags)

    return Preloaded(model, told, found, measured(paths, ["n1", "n3"], work))


def test_it_ends_well_and_says_that_both_are_warm(preloaded: Preloaded) -> None:
    assert (preloaded.told.status, preloaded.told.states) == (0, {"n1": "Warm", "n3": "Warm"}), preloaded.told.words


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_the_files_on_disk_are_those_that_were_packed(preloaded: Preloaded, node: str) -> None:
    assert preloaded.contents[node] == files(preloaded.model.folder)


@pytest.mark.parametrize("node", ["n1", "n3"])
def test_every_byte_is_in_memory_where_none_was(preloaded: Preloaded, node: str) -> None:
    before, after, _ = preloaded.memory
    paths = list(before[node])

    assert before[node] == dict.fromkeys(paths, 0)
    assert after[node] == dict.fromkeys(paths, 1)


def test_a_node_that_was_not_selected_has_no_files(preloaded: Preloaded) -> None:
    assert preloaded.model.digest not in models("n2")
    assert preloaded.model.digest in models("n1")


def test_the_selected_nodes_have_both_labels_and_no_others_have_any(preloaded: Preloaded) -> None:
    assert labelled(preloaded.model.disk_label) == ["n1", "n3"]
    assert labelled(preloaded.model.warm_label) == ["n1", "n3"]


def test_given_again_it_creates_nothing(preloaded: Preloaded) -> None:
    again = preloaded.model.preload(*BOTH, *on("n1", "n3"), "--mode", "host")

    assert (again.status, again.states) == (0, {"n1": "Warm", "n3": "Warm"})
    assert "Waiting" not in again.words


def test_the_pod_has_one_folder_of_the_host_and_no_token(preloaded: Preloaded) -> None:
    (job,) = preloaded.model.objects(*on("n2"), "--mode", "host")
    pod = job["spec"]["template"]["spec"]

    assert [volume.get("hostPath", {}).get("path") for volume in pod["volumes"]] == ["/var/lib/modelctl"]
    assert pod["automountServiceAccountToken"] is False
    assert "serviceAccountName" not in pod


def test_a_preload_in_image_mode_does_not_take_files_for_the_image(preloaded: Preloaded, namespace: Namespace) -> None:
    """Pods that mount the image read other files than those of host mode, with pages of their own."""
    told = preloaded.model.preload(*on("n1"), "--mode", "image", "-n", namespace.name)

    assert (told.status, told.states) == (0, {"n1": "Warm"})
    assert preloaded.model.reference in images("n1")
