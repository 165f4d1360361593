"""What a model and the user's choices become; the whole of it stands in tests/golden/render."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from modelctl.cluster.labels import Object
from modelctl.cluster.serving import (
    Model,
    Serving,
    check_name,
    check_namespace,
    check_secret_name,
    name_of,
    render_serving,
    to_yaml,
)
from modelctl.cluster.templates import load_template
from modelctl.core.errors import UsageProblem
from modelctl.core.types import Digest, digest_of

ROOT = Path(__file__).parents[2]
GOLDEN = ROOT / "tests/golden/render"

MODES = ["image-volume", "pvc"]
ENGINES = ["vllm", "sglang", "none"]
IMAGE_VOLUMES = ["1.31", "1.32", "1.33", "1.34", "1.35", "1.36"]

MODEL = Model(
    repository="registry.example/qwen/qwen3-8b",
    tag="v1",
    digest=digest_of(b"manifest"),
    weights=digest_of(b"weights"),
    size=16_397_461_504,
)


def serving(**choices: Any) -> Serving:
    return Serving(**{"mode": "image-volume", "engine": "vllm", "name": "qwen3-8b", "namespace": "ml"} | choices)


def rendered(model: Model = MODEL, **choices: Any) -> dict[str, Object]:
    """Return the objects by kind."""
    return {found["kind"]: found for found in render_serving(model, serving(**choices))}


def pod(model: Model = MODEL, **choices: Any) -> Object:
    spec: Object = rendered(model, **choices)["Deployment"]["spec"]["template"]["spec"]
    return spec


def container(model: Model = MODEL, **choices: Any) -> Object:
    (only,) = pod(model, **choices)["containers"]
    found: Object = only
    return found


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_objects_are_those_of_the_golden_file(mode: str, engine: str) -> None:
    golden = GOLDEN / f"{mode}-{engine}.yaml"
    assert to_yaml(render_serving(MODEL, serving(mode=mode, engine=engine))) == golden.read_text()


@pytest.mark.parametrize("version", IMAGE_VOLUMES)
@pytest.mark.parametrize("golden", sorted(GOLDEN.glob("*.yaml")), ids=lambda path: path.stem)
def test_every_rendered_object_fits_the_schema_of_the_version(golden: Path, version: str) -> None:
    for found in yaml.safe_load_all(golden.read_text()):
        kubernetes_validate.validate(found, version, strict=True)


@pytest.mark.parametrize("version", IMAGE_VOLUMES)
@pytest.mark.parametrize("template", ["engine/vllm", "engine/sglang", "engine/none", "volume/pvc"])
def test_every_template_fits_the_schema_as_it_is(template: str, version: str) -> None:
    for found in load_template(template):
        kubernetes_validate.validate(found, version, strict=True)


def test_an_image_volume_does_not_fit_the_schema_before_1_31() -> None:
    with pytest.raises(kubernetes_validate.ValidationError):
        kubernetes_validate.validate(rendered()["Deployment"], "1.30", strict=True)


def test_a_claim_fits_the_schema_before_1_31() -> None:
    for found in rendered(mode="pvc").values():
        kubernetes_validate.validate(found, "1.28", strict=True)


def test_the_same_choices_give_the_same_bytes() -> None:
    assert to_yaml(render_serving(MODEL, serving())) == to_yaml(render_serving(MODEL, serving()))


def test_rendering_leaves_nothing_of_one_model_in_the_next() -> None:
    other = replace(MODEL, digest=digest_of(b"other"))
    render_serving(MODEL, serving(pull_secret="leftover"))
    assert MODEL.digest not in to_yaml(render_serving(other, serving()))
    assert "leftover" not in to_yaml(render_serving(other, serving()))


def test_the_volume_names_the_digest_and_not_the_tag() -> None:
    assert pod()["volumes"][0]["image"]["reference"] == f"registry.example/qwen/qwen3-8b@{MODEL.digest}"


def test_the_tag_stays_in_an_annotation() -> None:
    for found in rendered().values():
        assert found["metadata"]["annotations"]["modelctl.io/reference"] == "registry.example/qwen/qwen3-8b:v1"


def test_another_tag_of_the_same_digest_restarts_no_pod() -> None:
    other = rendered(replace(MODEL, tag="v2"))["Deployment"]
    assert other["spec"] == rendered()["Deployment"]["spec"]


def test_a_claim_and_its_volume_name_each_other() -> None:
    found = rendered(mode="pvc")
    volume, claim = found["PersistentVolume"], found["PersistentVolumeClaim"]
    assert volume["spec"]["claimRef"] == {"namespace": "ml", "name": claim["metadata"]["name"]}
    assert claim["spec"]["volumeName"] == volume["metadata"]["name"]
    assert pod(mode="pvc")["volumes"][0]["persistentVolumeClaim"]["claimName"] == claim["metadata"]["name"]


def test_volumes_of_two_namespaces_or_versions_have_different_names() -> None:
    other = replace(MODEL, digest=digest_of(b"other"))
    found = [
        rendered(mode="pvc", namespace="ml"),
        rendered(mode="pvc", namespace="prod"),
        rendered(other, mode="pvc", namespace="ml"),
        rendered(mode="pvc", namespace="team", name="a-m"),
        rendered(mode="pvc", namespace="team-a", name="m"),
    ]
    assert len({objects["PersistentVolume"]["metadata"]["name"] for objects in found}) == len(found)


def test_a_claim_is_the_same_whether_or_not_the_size_is_known() -> None:
    unknown = replace(MODEL, size=None)
    assert rendered(mode="pvc")["PersistentVolumeClaim"] == rendered(unknown, mode="pvc")["PersistentVolumeClaim"]


def test_a_volume_asks_for_nodes_that_have_the_files() -> None:
    (term,) = rendered(mode="pvc")["PersistentVolume"]["spec"]["nodeAffinity"]["required"]["nodeSelectorTerms"]
    key = f"disk.modelctl.io/{MODEL.digest[7:23]}"
    assert term == {"matchExpressions": [{"key": key, "operator": "Exists"}]}


@pytest.mark.parametrize("mode", MODES)
def test_warm_nodes_are_preferred(mode: str) -> None:
    affinity = pod(mode=mode)["affinity"]["nodeAffinity"]
    (preferred,) = affinity["preferredDuringSchedulingIgnoredDuringExecution"]
    assert preferred["preference"]["matchExpressions"][0]["key"] == f"warm.modelctl.io/{MODEL.weights[7:23]}"  # type: ignore[index]


@pytest.mark.parametrize("mode", MODES)
def test_warm_nodes_are_required_when_told(mode: str) -> None:
    assert list(pod(mode=mode, require_warm=True)["affinity"]["nodeAffinity"]) == [
        "requiredDuringSchedulingIgnoredDuringExecution"
    ]


def test_of_a_model_that_is_not_known_no_warm_node_is_preferred() -> None:
    assert "affinity" not in pod(Model(repository="registry.example/m", digest=Digest("sha256:" + "0" * 64)))


def test_the_memory_of_a_pod_counts_the_models_pages() -> None:
    small = container(replace(MODEL, size=1 << 30))["resources"]
    assert small == {
        "requests": {"cpu": "4", "memory": f"{(8 << 10) + 1024}Mi"},
        "limits": {"nvidia.com/gpu": "1"},
    }


def test_why_so_much_memory_is_requested_stands_in_an_annotation() -> None:
    template = rendered()["Deployment"]["spec"]["template"]
    assert "8Gi for the process and 15638Mi for the model" in template["metadata"]["annotations"]["modelctl.io/memory"]


@pytest.mark.parametrize("mode", MODES)
@pytest.mark.parametrize("engine", ENGINES)
def test_the_model_is_mounted_where_the_engine_looks_and_read_only(mode: str, engine: str) -> None:
    found = container(mode=mode, engine=engine)
    mount = found["volumeMounts"][0]
    assert (mount["mountPath"], mount["readOnly"]) == ("/models/qwen3-8b", True)
    paths = [word for word in found.get("args", []) if "/models" in word]
    assert [word.partition("=")[2] or word for word in paths] == ([] if engine == "none" else ["/models/qwen3-8b"])


@pytest.mark.parametrize(
    ("choices", "path"),
    [
        ({}, "/models/qwen3-8b/models"),
        ({"sub_path": "models"}, "/models/qwen3-8b"),
        ({"mode": "pvc"}, "/models/qwen3-8b"),
    ],
)
def test_files_that_stand_in_a_folder_of_the_image_are_found(choices: dict[str, str], path: str) -> None:
    assert container(replace(MODEL, prefix="models/"), **choices)["args"][0] == path


@pytest.mark.parametrize("mode", MODES)
def test_only_a_folder_is_mounted_when_asked(mode: str) -> None:
    assert container(mode=mode, sub_path="models")["volumeMounts"][0]["subPath"] == "models"


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_gpus_are_the_limit_and_the_tensor_parallel_size(engine: str) -> None:
    found = container(engine=engine, gpus=4)
    assert found["resources"]["limits"] == {"nvidia.com/gpu": "4"}
    assert "--tensor-parallel-size=4" in found["args"]


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_the_service_reaches_the_port_of_the_engine(engine: str) -> None:
    found = rendered(engine=engine)
    (port,) = container(engine=engine)["ports"]
    assert found["Service"]["spec"]["ports"][0]["targetPort"] == port["name"]
    labels = found["Deployment"]["spec"]["template"]["metadata"]["labels"]
    assert found["Service"]["spec"]["selector"].items() <= labels.items()
    assert found["Deployment"]["spec"]["selector"]["matchLabels"].items() <= labels.items()


@pytest.mark.parametrize("engine", ["vllm", "sglang"])
def test_every_probe_asks_the_port_of_the_engine(engine: str) -> None:
    found = container(engine=engine)
    probes = [found[name] for name in ("startupProbe", "readinessProbe", "livenessProbe")]
    assert [probe["httpGet"] for probe in probes] == [{"path": "/health", "port": "http"}] * 3
    assert all(probe["timeoutSeconds"] >= 10 for probe in probes)


def test_who_pulls_is_said_when_it_is_known() -> None:
    found = pod(pull_secret="hub", service_account="runner")
    assert (found["imagePullSecrets"], found["serviceAccountName"]) == ([{"name": "hub"}], "runner")


def test_the_image_of_the_engine_can_be_another() -> None:
    assert container(image="registry.example/vllm:mine")["image"] == "registry.example/vllm:mine"


@pytest.mark.parametrize("engine", ENGINES)
def test_pods_may_do_what_pod_security_restricted_allows_and_no_more(engine: str) -> None:
    found = pod(engine=engine)
    assert found["securityContext"]["runAsNonRoot"]
    assert found["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
    (only,) = found["containers"]
    assert only["securityContext"] == {
        "allowPrivilegeEscalation": False,
        "capabilities": {"drop": ["ALL"]},
        "readOnlyRootFilesystem": True,
    }
    assert not found["automountServiceAccountToken"]


@pytest.mark.parametrize("engine", ENGINES)
def test_services_of_the_namespace_set_no_variable_of_an_engine(engine: str) -> None:
    assert pod(engine=engine)["enableServiceLinks"] is False


@pytest.mark.parametrize("engine", ENGINES)
def test_the_next_version_keeps_the_number_of_pods(engine: str) -> None:
    assert "replicas" not in rendered(engine=engine)["Deployment"]["spec"]


@pytest.mark.parametrize("text", ["y", "N", "1e3", "0x1f", "1_000", "12:30", "no", "1.36"])
def test_text_stays_text_for_every_reader(text: str) -> None:
    assert to_yaml([{"name": text}]) == f"name: '{text}'\n"


@pytest.mark.parametrize("text", ["", "Ml", "a_b", "-a", "x" * 64])
def test_what_is_no_namespace_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="--namespace"):
        check_namespace(text)


@pytest.mark.parametrize("text", ["1team", "x" * 63, "ml"])
def test_a_namespace_may_be_any_label(text: str) -> None:
    assert check_namespace(text) == text


@pytest.mark.parametrize("text", ["Bad_Name!", "-a", "x" * 254])
def test_what_is_no_name_of_a_secret_is_refused(text: str) -> None:
    with pytest.raises(UsageProblem, match="--pull-secret"):
        check_secret_name(text, "--pull-secret")


@pytest.mark.parametrize(
    ("repository", "name"),
    [
        ("r.example/qwen/qwen3-8b", "qwen3-8b"),
        ("r.example/m/llama_3.1", "llama-3-1"),
        ("r.example/m/7b", "model-7b"),
        ("r.example/m/" + "x" * 80, "x" * 50),
    ],
)
def test_a_repository_gives_a_name_that_objects_may_have(repository: str, name: str) -> None:
    assert check_name(name_of(repository), "--name") == name


@pytest.mark.parametrize("name", ["", "Qwen", "7b", "-a", "a-", "a_b", "a.b", "x" * 51])
def test_what_is_no_name_is_refused(name: str) -> None:
    with pytest.raises(UsageProblem, match="--name"):
        check_name(name, "--name")


def test_the_kustomization_lists_what_is_there() -> None:
    kustomization = yaml.safe_load((ROOT / "kube/kustomization.yaml").read_text())
    assert [(ROOT / "kube" / path).is_file() for path in kustomization["resources"]] == [True]
