"""`modelctl status --fix`: labels say what is so, and nothing else."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from e2e.kubernetes.manifests import image_pod
from e2e.kubernetes.model import Model, Told, labelled, on
from e2e.kubernetes.namespace import Namespace, kubectl, new_namespace
from e2e.kubernetes.node import all_files, drop_from_page_cache, images, models, node_exec, snapshots


@dataclass(frozen=True)
class Silent:
    """Two models of n1 and n2, in host mode and in image mode where nobody waited, and n2 says nothing any more."""

    files: Model
    image: Model
    told_of_files: Told
    told_of_image: Told


@pytest.fixture(scope="module")
def silent(new_model: Callable[[], Model], tmp_path_factory: pytest.TempPathFactory) -> Iterator[Silent]:
    files, image = new_model(), new_model()
    with new_namespace(tmp_path_factory.mktemp("objects"), "a") as (namespace,):
        image.preload(*on("n1", "n2"), "-n", namespace.name, "--no-wait")
        files.preload(*on("n1", "n2"), "--mode", "host")
        namespace("wait", "--for=condition=Complete", "--timeout=60s", "jobs", "--all")
        node_exec("n2", "sh", "-c", "kill -STOP $(pidof kubelet)")
        kubectl("wait", "--for=condition=Ready=Unknown", "--timeout=60s", "node/n2")
        told = files.fix(), image.fix("-n", namespace.name)
        node_exec("n2", "sh", "-c", "kill -9 $(pidof kubelet)")
        kubectl("wait", "--for=condition=Ready", "--timeout=60s", "node/n2")
        namespace.until(
            "n2 without taints", lambda: "" if '"taints"' in kubectl("get", "node/n2", "-o", "json") else "n2"
        )
        yield Silent(files, image, *told)


def test_a_node_that_is_not_ready_loses_warm_and_keeps_disk_while_others_keep_both(silent: Silent) -> None:
    told = silent.told_of_files
    assert (told.status, told.states) == (9, {"n1": "disk,warm", "n2": "disk"}), told.words
    assert "n2  NotReady" in told.words
    assert labelled(silent.files.warm_label) == ["n1"]
    assert labelled(silent.files.disk_label) == ["n1", "n2"]


def test_a_job_that_ended_well_is_not_believed_of_a_node_that_is_not_ready(silent: Silent) -> None:
    assert silent.told_of_image.states == {"n1": "warm", "n2": ""}, silent.told_of_image.words
    assert labelled(silent.image.warm_label) == ["n1"]


def test_a_label_that_somebody_set_by_hand_is_made_true(namespace: Namespace, new_model: Callable[[], Model]) -> None:
    """To look is to warm: the Job that measures brings the model."""
    model = new_model()
    kubectl("label", "node", "n2", f"{model.warm_label}=")
    told = model.fix("-n", namespace.name)

    assert (told.status, told.states) == (0, {"n1": "", "n2": "warm"})
    assert model.reference in images("n2")
    assert model.reference not in images("n1")


def test_files_that_a_label_promised_in_vain_are_brought(new_model: Callable[[], Model]) -> None:
    model = new_model()
    kubectl("label", "node", "n2", f"{model.disk_label}=")
    told = model.fix()

    assert (told.status, told.states) == (0, {"n1": "", "n2": "disk,warm"})
    assert model.digest in models("n2")


def test_a_node_that_cannot_have_all_of_it_in_memory_loses_the_label(
    namespace: Namespace, new_model: Callable[..., Model], busybox: str
) -> None:
    """Pages count against who brings them in, and its limit is less than the model."""
    model = new_model(size=20_000_000)
    namespace.start("pod/reader", image_pod("reader", busybox, model.reference, "n1"))
    drop_from_page_cache("n1", *all_files("n1", *snapshots("n1", model.digest)))
    kubectl("label", "node", "n1", f"{model.warm_label}=")
    namespace.apply(LIMIT)
    told = model.fix("-n", namespace.name)

    assert told.states == {"n1": "", "n2": ""}
    assert "n1  NotWarm" in told.words
    assert "a LimitRange of namespace" in told.words


LIMIT = """
{"apiVersion": "v1", "kind": "LimitRange", "metadata": {"name": "less"},
 "spec": {"limits": [{"type": "Container", "default": {"memory": "64Mi"}}]}}
"""


def test_what_could_not_be_measured_keeps_its_labels(namespace: Namespace, new_model: Callable[[], Model]) -> None:
    model = new_model()
    model.preload(*on("n1"), "-n", namespace.name)
    namespace.until("no pods", lambda: "none" if namespace.get("pods") == [] else "")
    namespace("create", "quota", "none", "--hard=count/jobs.batch=0")
    namespace.wait_for("jsonpath={.status.hard}", "quota/none")
    told = model.fix("-n", namespace.name)

    assert (told.status, told.states) == (9, {"n1": "warm", "n2": ""})
    assert "exceeded quota: none" in told.words


def test_files_that_are_there_keep_their_label_while_a_registry_refuses_to_say_what_they_must_be(
    new_model: Callable[[], Model], private_registry: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    model = new_model()
    model.preload(*on("n1"), "--mode", "host")
    ours = Namespace("modelctl-system", tmp_path, "a")
    ours.until("no pods", lambda: "" if ours.get("pods", "-l", f"modelctl.io/model={model.short}") else "none")
    settings = tmp_path / "config.toml"
    settings.write_text(f'[regions.private]\nregistry = "{private_registry}"\n[clusters.a]\nregion = "private"\n')
    monkeypatch.setenv("MODELCTL_CONFIG", str(settings))
    told = model.fix()

    assert model.digest in models("n1")
    assert (told.status, labelled(model.disk_label)) == (9, ["n1"]), told.words


def test_where_nothing_is_labelled_there_is_nothing_to_do(namespace: Namespace, new_model: Callable[[], Model]) -> None:
    told = new_model().fix("-n", namespace.name)

    assert (told.status, told.states) == (0, {"n1": "", "n2": ""}), told.words
