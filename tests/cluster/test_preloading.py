"""What preloads, holds and removes a model; the whole of it stands in tests/golden/preload."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from modelctl.cluster.labels import Object
from modelctl.cluster.preloading import (
    HOST_NAMESPACE,
    Preload,
    ca_config,
    holder,
    holder_name,
    host_namespace,
    job_name,
    preload_job,
    removal_job,
    selector_of,
)
from modelctl.cluster.serving import to_yaml
from modelctl.cluster.templates import load_template
from modelctl.core.errors import ChecksumMismatch, Denied, Invalid, NotFound, Partial, UsageProblem
from modelctl.core.types import digest_of

GOLDEN = Path(__file__).parents[1] / "golden/preload"
VERSIONS = ["1.33", "1.34", "1.35", "1.36"]
TEMPLATES = ["preload/image", "preload/host", "preload/remove", "preload/namespace", "hold/image", "hold/host"]
NODEGROUP = [{"key": "nodegroup", "operator": "In", "values": ["dev"]}]

IMAGE = Preload(
    mode="image",
    repository="registry.example:5000/qwen/qwen3-8b",
    digest=digest_of(b"manifest"),
    table=digest_of(b"table"),
    size=16_397_461_504,
    namespace="ml",
    image="registry.example/tools/modelctl:0.1.0",
    pull_secret="hub",
    service_account="puller",
    tolerations=[{"key": "gpu", "operator": "Exists"}],
    deadline_s=900,
)
HOST = replace(IMAGE, mode="host", namespace=HOST_NAMESPACE, registry_flags=["--insecure"], ca="-----BEGIN\n")
PLAIN = Preload(
    mode="image",
    repository="registry.example/m",
    digest=digest_of(b"other"),
    table=digest_of(b"other table"),
    size=1 << 30,
    namespace="default",
    image="registry.example/modelctl:1",
    deadline_s=60,
)

OBJECTS = {
    "image-job": preload_job(IMAGE, "n1"),
    "image-holder": holder(IMAGE, NODEGROUP),
    "host-job": preload_job(HOST, "n1"),
    "host-holder": holder(HOST, NODEGROUP),
    "host-removal": removal_job(HOST, "n1"),
    "host-ca": ca_config(HOST),
    "host-namespace": host_namespace(HOST_NAMESPACE),
}
WITH_PODS = ["image-job", "image-holder", "host-job", "host-holder", "host-removal"]


def pod(name: str) -> Object:
    spec: Object = OBJECTS[name]["spec"]["template"]["spec"]
    return spec


def containers(spec: Object) -> dict[str, Object]:
    return {one["name"]: one for one in [*spec.get("initContainers", []), *spec["containers"]]}


@pytest.mark.parametrize("name", OBJECTS)
def test_the_object_is_that_of_the_golden_file(name: str) -> None:
    assert to_yaml([OBJECTS[name]]) == (GOLDEN / f"{name}.yaml").read_text()


@pytest.mark.parametrize(("gib", "interval"), [(1, "30"), (15, "30"), (100, "200"), (600, "1200")])
def test_a_holder_looks_the_less_often_the_more_there_is(gib: int, interval: str) -> None:
    (container,) = holder(replace(IMAGE, size=gib << 30), NODEGROUP)["spec"]["template"]["spec"]["containers"]
    assert container["args"][-2:] == ["--interval", interval]


def test_no_golden_file_is_left_over() -> None:
    assert sorted(path.stem for path in GOLDEN.glob("*.yaml")) == sorted(OBJECTS)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("name", OBJECTS)
def test_every_object_fits_the_schema_of_the_version(name: str, version: str) -> None:
    kubernetes_validate.validate(yaml.safe_load((GOLDEN / f"{name}.yaml").read_text()), version, strict=True)


@pytest.mark.parametrize("version", VERSIONS)
@pytest.mark.parametrize("template", TEMPLATES)
def test_every_template_fits_the_schema_as_it_is(template: str, version: str) -> None:
    (found,) = load_template(template)
    kubernetes_validate.validate(found, version, strict=True)


def test_host_mode_fits_clusters_without_image_volumes() -> None:
    kubernetes_validate.validate(OBJECTS["host-job"], "1.30", strict=True)
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(OBJECTS["image-job"], "1.30", strict=True)


@pytest.mark.parametrize("name", OBJECTS)
def test_nothing_of_the_template_is_left(name: str) -> None:
    text = to_yaml([OBJECTS[name]])
    assert not re.search(r"0{16}|1{16}|registry\.example/models|:latest|-node\b", text)


def test_one_model_leaves_nothing_in_the_next() -> None:
    text = to_yaml([preload_job(PLAIN, "n2")])
    assert not [found for found in (IMAGE.digest, "hub", "puller", "gpu", "n1") if found in text]


@pytest.mark.parametrize("name", WITH_PODS)
def test_objects_and_pods_say_what_they_are_for(name: str) -> None:
    found = OBJECTS[name]
    short = IMAGE.digest[7:23]
    for metadata in (found["metadata"], found["spec"]["template"]["metadata"]):
        assert metadata["labels"]["modelctl.io/model"] == short
        assert metadata["labels"]["app.kubernetes.io/managed-by"] == "modelctl"
        assert metadata["labels"]["app.kubernetes.io/component"] == found["metadata"]["name"].partition("-")[0]
        assert metadata["annotations"]["modelctl.io/digest"] == IMAGE.digest
        assert metadata["annotations"]["modelctl.io/reference"] == IMAGE.reference


@pytest.mark.parametrize("make", [preload_job, removal_job])
def test_a_job_runs_on_its_node_and_on_no_other(make: Any) -> None:
    job = make(HOST, "node-7.example")
    terms = job["spec"]["template"]["spec"]["affinity"]["nodeAffinity"]
    assert terms == {
        "requiredDuringSchedulingIgnoredDuringExecution": {
            "nodeSelectorTerms": [
                {"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-7.example"]}]}
            ]
        }
    }
    annotated = [job["metadata"], job["spec"]["template"]["metadata"]]
    assert [found["annotations"]["modelctl.io/node"] for found in annotated] == ["node-7.example"] * 2


def test_a_holder_goes_where_the_selector_says() -> None:
    terms = pod("image-holder")["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    assert terms == {"nodeSelectorTerms": [{"matchExpressions": NODEGROUP}]}


def test_a_holder_without_a_selector_goes_everywhere() -> None:
    assert "affinity" not in holder(PLAIN, [])["spec"]["template"]["spec"]


def test_the_pods_of_a_holder_are_those_that_it_selects() -> None:
    spec = OBJECTS["image-holder"]["spec"]
    assert spec["selector"]["matchLabels"].items() <= spec["template"]["metadata"]["labels"].items()


@pytest.mark.parametrize("name", ["image-holder", "host-holder"])
def test_a_holder_requests_what_the_kubelet_counts(name: str) -> None:
    found = containers(pod(name))["hold"]["resources"]
    assert found == {"requests": {"cpu": "100m", "memory": f"{64 + 15638}Mi"}}


@pytest.mark.parametrize("name", WITH_PODS)
def test_no_container_has_a_limit(name: str) -> None:
    assert not [one for one in containers(pod(name)).values() if "limits" in one["resources"]]


@pytest.mark.parametrize("name", ["image-job", "image-holder"])
def test_pods_of_image_mode_may_do_what_pod_security_restricted_allows(name: str) -> None:
    found = pod(name)
    assert found["securityContext"] == {
        "runAsNonRoot": True,
        "runAsUser": 65532,
        "runAsGroup": 65532,
        "seccompProfile": {"type": "RuntimeDefault"},
    }
    assert [list(volume) for volume in found["volumes"]] == [["name", "image"]]


@pytest.mark.parametrize("name", WITH_PODS)
def test_no_container_may_do_more_than_it_needs(name: str) -> None:
    found = pod(name)
    assert (found["automountServiceAccountToken"], found["enableServiceLinks"]) == (False, False)
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    assert [one["securityContext"] for one in containers(found).values()] == [
        {
            "allowPrivilegeEscalation": False,
            "capabilities": {"drop": ["ALL"]},
            "readOnlyRootFilesystem": True,
        }
    ] * len(containers(found))


def test_what_warms_cannot_write_to_the_host() -> None:
    mounts = {name: one["volumeMounts"][0] for name, one in containers(pod("host-job")).items()}
    assert {name: mount.get("readOnly", False) for name, mount in mounts.items()} == {"pull": False, "warm": True}


def test_what_the_registry_said_is_an_argument() -> None:
    args = containers(pod("image-job"))["warm"]["args"]
    assert args == ["node", "warm", "/model", "--table", IMAGE.table, "--output", "jsonl"]
    assert pod("image-job")["volumes"][0]["image"]["reference"] == IMAGE.reference


def test_host_mode_pulls_with_what_the_user_gave() -> None:
    found = containers(pod("host-job"))
    assert found["pull"]["args"] == [
        *("node", "pull", HOST.reference, "--root", "/var/lib/modelctl", "--output", "jsonl"),
        *("--authfile", "/credentials/config.json", "--ca-file", "/ca/ca.crt", "--insecure"),
    ]
    assert found["warm"]["args"][2] == f"/var/lib/modelctl/models/{HOST.digest[7:]}"


def test_host_mode_without_credentials_mounts_none() -> None:
    found = preload_job(replace(PLAIN, mode="host"), "n1")["spec"]["template"]["spec"]
    assert [volume["name"] for volume in found["volumes"]] == ["root"]
    assert "--authfile" not in containers(found)["pull"]["args"]


def test_the_ca_is_in_the_config_map_that_pods_mount() -> None:
    volumes = {volume["name"]: volume for volume in pod("host-job")["volumes"]}
    assert volumes["ca"]["configMap"]["name"] == OBJECTS["host-ca"]["metadata"]["name"]
    assert OBJECTS["host-ca"]["data"] == {"ca.crt": HOST.ca}


def test_what_is_not_asked_for_is_not_there() -> None:
    found = preload_job(PLAIN, "n1")["spec"]["template"]["spec"]
    assert not {"tolerations", "imagePullSecrets", "serviceAccountName"} & found.keys()


def test_who_pulls_and_what_is_tolerated_is_said() -> None:
    found = pod("host-removal")
    assert found["imagePullSecrets"] == [{"name": "hub"}]
    assert found["serviceAccountName"] == "puller"
    assert found["tolerations"] == [{"key": "gpu", "operator": "Exists"}]


def test_another_attempt_is_not_made_where_it_mends_nothing() -> None:
    evicted, ended = OBJECTS["image-job"]["spec"]["podFailurePolicy"]["rules"]
    assert evicted["action"] == "Ignore"
    assert ended["onExitCodes"]["values"] == sorted(
        error.exit_status for error in (UsageProblem, NotFound, ChecksumMismatch, Denied, Partial, Invalid)
    )


def test_a_job_has_the_users_deadline() -> None:
    assert OBJECTS["image-job"]["spec"]["activeDeadlineSeconds"] == 900


def test_names_depend_on_digest_and_node_and_fit_a_label() -> None:
    names = [
        job_name("preload", IMAGE.digest, "n1"),
        job_name("preload", IMAGE.digest, "n2"),
        job_name("preload", PLAIN.digest, "n1"),
        job_name("remove", IMAGE.digest, "n1"),
        holder_name(IMAGE.digest),
    ]
    assert len(set(names)) == 5
    assert len(job_name("preload", IMAGE.digest, "n" * 253)) <= 63
    assert names[0] == OBJECTS["image-job"]["metadata"]["name"]


def test_a_selector_finds_components_of_one_model() -> None:
    labels = f"app.kubernetes.io/managed-by=modelctl,modelctl.io/model={IMAGE.digest[7:23]}"
    assert selector_of(IMAGE.digest) == labels
    assert selector_of(IMAGE.digest, "preload", "hold") == f"{labels},app.kubernetes.io/component in (preload,hold)"


def test_the_namespace_of_host_mode_takes_pods_that_write_to_the_host() -> None:
    metadata = host_namespace("models")["metadata"]
    assert (metadata["name"], metadata["labels"]["pod-security.kubernetes.io/enforce"]) == ("models", "privileged")
