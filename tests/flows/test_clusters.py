"""Several clusters at once: which are meant, what each of them gets, and one that fails beside others."""

from __future__ import annotations

import time
from pathlib import Path

import pytest

from modelctl.core.access import Access
from modelctl.core.errors import NotFound, UsageProblem
from tests.fakes.kube_api import KubeApi, kube_api
from tests.fakes.kube_jobs import Player, ready_node
from tests.flows.conftest import Published
from tests.flows.fleet import Fleet, labels_of

pytestmark = pytest.mark.usefixtures("player", "hurried")

SETTINGS = """
[regions.east]
registry = "registry.east.example"
namespace = "mirror"

[clusters.a]
region = "east"
image = "registry.east.example/tools/modelctl:2"
"""


@pytest.fixture
def fleet(api: KubeApi, published: Published, tmp_path: Path) -> Fleet:
    return Fleet(tmp_path, published.text, {"a": api.url, "dead": "http://127.0.0.1:1"})


@pytest.fixture
def settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "settings.toml"
    path.write_text(SETTINGS)
    monkeypatch.setenv("MODELCTL_CONFIG", str(path))
    return path


def test_the_current_context_is_meant_where_none_is_named(fleet: Fleet) -> None:
    assert [cluster.context for cluster in fleet.run("preload", dry_run="client").clusters] == ["a"]


def test_a_context_that_is_named_twice_is_meant_once(fleet: Fleet) -> None:
    assert len(fleet.run("preload", dry_run="client", contexts=("a", "a")).clusters) == 1


def test_a_context_that_is_not_there_is_refused_before_anything(api: KubeApi, fleet: Fleet) -> None:
    with pytest.raises(UsageProblem) as refused:
        fleet.run("preload", contexts=("a", "mars"))

    assert ("a, dead" in refused.value.why, api.requests) == (True, [])


def test_a_dead_cluster_and_one_that_refuses_delay_no_other(api: KubeApi, published: Published, tmp_path: Path) -> None:
    with kube_api() as closed:
        closed.status = 403
        servers = {"dead": "http://127.0.0.1:1", "a": api.url, "closed": closed.url}
        fleet = Fleet(tmp_path, published.text, servers)
        began = time.monotonic()
        dead, alive, refusing = fleet.run("preload", contexts=("*",)).clusters

    assert time.monotonic() - began < 8
    assert ("cluster dead" in dead.problem, "403" in refusing.problem, alive.problem) == (True, True, "")
    assert (labels_of(api), {row.state for row in alive.nodes}) == ({"n1": {"warm"}, "n2": {"warm"}}, {"Warm"})


def test_two_clusters_are_preloaded_side_by_side(api: KubeApi, published: Published, tmp_path: Path) -> None:
    with kube_api() as other:
        other.objects["nodes"] = [ready_node("m1")]
        Player(other, published.artifact.size)
        fleet = Fleet(tmp_path, published.text, {"a": api.url, "b": other.url})
        found = fleet.run("preload", contexts=("a", "b")).clusters

        assert [[row.name for row in cluster.nodes] for cluster in found] == [["n1", "n2"], ["m1"]]
        assert labels_of(other) == {"m1": {"warm"}}


@pytest.mark.usefixtures("settings")
def test_a_cluster_pulls_from_the_registry_next_to_it(fleet: Fleet, published: Published) -> None:
    (found,) = fleet.run("preload", dry_run="client", image="").clusters
    pod = found.objects[0]["spec"]["template"]["spec"]

    path = published.text.partition("/")[2].removesuffix(":v1")
    assert pod["volumes"][0]["image"]["reference"] == f"registry.east.example/mirror/{path}@{published.digest}"
    assert pod["containers"][0]["image"] == "registry.east.example/tools/modelctl:2"


@pytest.mark.usefixtures("settings")
def test_an_image_that_is_named_wins_over_the_settings(fleet: Fleet) -> None:
    (found,) = fleet.run("preload", dry_run="client", image="registry.example/mine:1").clusters

    assert found.objects[0]["spec"]["template"]["spec"]["containers"][0]["image"] == "registry.example/mine:1"


@pytest.mark.usefixtures("settings")
@pytest.mark.parametrize("dry_run", [None, "client"])
def test_without_an_image_for_one_of_them_nothing_is_begun(api: KubeApi, fleet: Fleet, dry_run: str | None) -> None:
    with pytest.raises(UsageProblem) as refused:
        fleet.run("preload", contexts=("a", "dead"), image="", dry_run=dry_run)

    assert ("[clusters.dead]" in refused.value.hint, api.requests) == (True, [])


def test_a_region_that_the_settings_do_not_describe_is_refused(fleet: Fleet, settings: Path) -> None:
    settings.write_text('[clusters.a]\nregion = "mars"\n')

    with pytest.raises(UsageProblem, match="mars"):
        fleet.run("preload")


@pytest.mark.parametrize(
    ("options", "said"),
    [
        ({"namespace": "Not/A/Name"}, "--namespace"),
        ({"image": "no image"}, "no image"),
        ({"pull_secret": "Not A Secret"}, "--pull-secret"),
        ({"service_account": "-"}, "--service-account"),
        ({"tolerations": ["gpu:Never"]}, "--tolerations"),
        ({"selector": ""}, "--node-selector"),
        ({"mode": "host", "access": Access(client_cert="cert.pem")}, "--client-cert"),
    ],
)
def test_what_cannot_be_is_refused_before_anything(
    api: KubeApi, fleet: Fleet, options: dict[str, object], said: str
) -> None:
    with pytest.raises(UsageProblem, match=said):
        fleet.run("preload", **options)

    assert api.requests == []


def test_a_reference_to_a_folder_is_refused(api: KubeApi, tmp_path: Path) -> None:
    with pytest.raises(UsageProblem, match="no node can pull"):
        Fleet(tmp_path, "oci:store:v1", {"a": api.url}).run("preload")


def test_an_artifact_that_is_not_there_is_not_found(api: KubeApi, published: Published, tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        Fleet(tmp_path, published.text.replace(":v1", ":v9"), {"a": api.url}).run("preload")

    assert api.requests == []


def test_pods_get_what_was_asked_for(fleet: Fleet) -> None:
    (found,) = fleet.run(
        "preload", dry_run="client", pull_secret="hub", service_account="loader", tolerations=["gpu"]
    ).clusters
    pod = found.objects[0]["spec"]["template"]["spec"]

    assert (pod["imagePullSecrets"], pod["serviceAccountName"]) == ([{"name": "hub"}], "loader")
    assert pod["tolerations"] == [{"key": "gpu", "operator": "Exists"}]
