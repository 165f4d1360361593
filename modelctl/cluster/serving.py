"""The objects that serve a model: what is in `kube/`, with names, digests and sizes filled in.

Pure and deterministic: the same model and choices give the same objects, whatever the time and the place.
"""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass

import yaml

from modelctl.cluster.labels import DIGEST_ANNOTATION, REFERENCE_ANNOTATION, Object, disk_label, short, warm_label
from modelctl.cluster.quantities import parse_quantity, to_quantity
from modelctl.cluster.templates import load_template
from modelctl.core.choices import Engine, Mode
from modelctl.core.errors import UsageProblem
from modelctl.core.paths import NODE_ROOT
from modelctl.core.reference import parse_reference
from modelctl.core.types import Digest

_MEMORY_ANNOTATION = "modelctl.io/memory"
_LONGEST_NAME = 50


@dataclass(frozen=True, kw_only=True)
class Model:
    """What is served.

    `repository` is `host[:port]/name`; `weights` is the digest of the set of weight layers; `size` counts the files'
    bytes and `prefix` is what the layers put before their paths. The last three are not known offline.
    """

    repository: str
    digest: Digest
    tag: str = ""
    weights: Digest | None = None
    size: int | None = None
    prefix: str = ""


@dataclass(frozen=True, kw_only=True)
class Serving:
    """How it is served; the names are those of the flags."""

    mode: Mode
    engine: Engine
    name: str
    namespace: str = "default"
    image: str = ""
    gpus: int = 1
    sub_path: str = ""
    pull_secret: str = ""
    service_account: str = ""
    require_warm: bool = False


def render_serving(model: Model, serving: Serving) -> list[Object]:
    """Return the objects in the order in which they are applied."""
    objects = load_template(f"engine/{serving.engine}")
    if serving.mode == "pvc":
        objects = load_template("volume/pvc") + objects
    for found in objects:
        _name(found, model, serving)
        fill = _FILLERS[found["kind"]]
        fill(found, model, serving)
    return objects


def to_yaml(objects: Sequence[Object]) -> str:
    """Write objects as the documents of one YAML stream."""
    return yaml.dump_all(objects, Dumper=_Dumper, sort_keys=False, width=1 << 16)


class _Dumper(yaml.SafeDumper):
    """Quotes also what other parsers take for something else than text, such as kubectl's: y, n, 1e3."""


def _text(dumper: yaml.SafeDumper, text: str) -> yaml.ScalarNode:
    ambiguous = re.fullmatch(r"[yYnN]|[-+.\d][\d.e+_:-]*", text, re.IGNORECASE)
    return dumper.represent_scalar("tag:yaml.org,2002:str", text, "'" if ambiguous else None)


_Dumper.add_representer(str, _text)


def check_name(text: str, what: str) -> str:
    """Return `text`, or raise `UsageProblem` when it is no name for an object. Source: RFC 1035, as a Service's is."""
    if not re.fullmatch(r"[a-z]([-a-z0-9]*[a-z0-9])?", text) or len(text) > _LONGEST_NAME:
        raise UsageProblem(
            f"{what} {text[:100]!r}",
            why=f"expected at most {_LONGEST_NAME} lower-case letters, digits and '-', a letter first and no '-' last",
        )
    return text


def check_namespace(text: str) -> str:
    """Return `text`, or raise `UsageProblem` when it is no namespace. Source: RFC 1123, a label."""
    if not re.fullmatch(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?", text):
        raise UsageProblem(f"--namespace {text[:100]!r}", why="expected at most 63 lower-case letters, digits and '-'")
    return text


def check_secret_name(text: str, what: str) -> str:
    """Return `text`, which may be empty, or raise `UsageProblem`. Source: RFC 1123, a subdomain."""
    if text and (len(text) > 253 or not re.fullmatch(r"[a-z0-9]([-a-z0-9.]*[a-z0-9])?", text)):
        raise UsageProblem(f"{what} {text[:100]!r}", why="expected lower-case letters, digits, '-' and '.'")
    return text


def check_image(text: str) -> str:
    """Return `text`, or raise `UsageProblem` when it is no container image in a registry."""
    if not parse_reference(text).registry:
        raise UsageProblem(f"--image {text[:200]!r}", why="expected REGISTRY/REPOSITORY with :TAG or @DIGEST")
    return text


def name_of(repository: str) -> str:
    """Return a name for the objects of a repository: its last part, as far as names go."""
    last = re.sub(r"[^a-z0-9]+", "-", repository.rpartition("/")[2].lower())
    return (last if last[0].isalpha() else f"model-{last}")[:_LONGEST_NAME].strip("-")


def _name(found: Object, model: Model, serving: Serving) -> None:
    metadata = found["metadata"]
    metadata["name"] = serving.name
    metadata["labels"]["app.kubernetes.io/name"] = serving.name
    metadata["annotations"] = {
        REFERENCE_ANNOTATION: model.repository + (f":{model.tag}" if model.tag else ""),
        DIGEST_ANNOTATION: model.digest,
    }
    if "namespace" in metadata:
        metadata["namespace"] = serving.namespace


def _fill_volume(found: Object, model: Model, serving: Serving) -> None:
    """A PersistentVolume binds one claim, and where it lies cannot be changed: it is named for both.

    Its size is the template's: a hostPath is not measured, and a claim cannot be resized.
    """
    found["metadata"]["name"] = f"{serving.namespace}.{_claim(model, serving)}"
    spec = found["spec"]
    spec["claimRef"] = {"namespace": serving.namespace, "name": _claim(model, serving)}
    spec["hostPath"]["path"] = f"{NODE_ROOT}/models/{model.digest.removeprefix('sha256:')}"
    spec["nodeAffinity"]["required"]["nodeSelectorTerms"] = [_exists(disk_label(model.digest))]


def _fill_claim(found: Object, model: Model, serving: Serving) -> None:
    found["metadata"]["name"] = _claim(model, serving)
    found["spec"]["volumeName"] = f"{serving.namespace}.{_claim(model, serving)}"


def _fill_service(found: Object, _model: Model, serving: Serving) -> None:
    found["spec"]["selector"]["app.kubernetes.io/name"] = serving.name


def _fill_deployment(found: Object, model: Model, serving: Serving) -> None:
    spec = found["spec"]
    spec["selector"]["matchLabels"]["app.kubernetes.io/name"] = serving.name
    metadata = spec["template"]["metadata"]
    metadata["labels"]["app.kubernetes.io/name"] = serving.name
    metadata["annotations"] = {DIGEST_ANNOTATION: model.digest}
    pod = spec["template"]["spec"]
    if serving.service_account:
        pod["serviceAccountName"] = serving.service_account
    if serving.pull_secret:
        pod["imagePullSecrets"] = [{"name": serving.pull_secret}]
    if model.weights:
        pod["affinity"] = {"nodeAffinity": _warm(model.weights, required=serving.require_warm)}
    pod["volumes"][0] = _volume(model, serving)
    (container,) = pod["containers"]
    if serving.image:
        container["image"] = serving.image
    mount = container["volumeMounts"][0]
    mount["mountPath"] = f"/models/{serving.name}"
    if serving.sub_path:
        mount["subPath"] = serving.sub_path
    container["args"] = [_argument(text, model, serving) for text in container.get("args", ())]
    if not container["args"]:
        del container["args"]
    limits = container["resources"].get("limits")
    if limits:
        limits["nvidia.com/gpu"] = str(serving.gpus)
    if model.size:
        requests = container["resources"]["requests"]
        metadata["annotations"][_MEMORY_ANNOTATION] = (
            f"requests {requests['memory']} for the process and {to_quantity(model.size)} for the model's pages, which "
            "the kubelet counts as used; there is no limit, because one below their sum would evict the model"
        )
        requests["memory"] = to_quantity(model.size + parse_quantity(requests["memory"]))


def _argument(text: str, model: Model, serving: Serving) -> str:
    inside = "" if serving.sub_path or serving.mode == "pvc" else model.prefix.rstrip("/")
    path = f"/models/{serving.name}" + (f"/{inside}" if inside else "")
    return {
        "--served-model-name=model": f"--served-model-name={serving.name}",
        "--tensor-parallel-size=1": f"--tensor-parallel-size={serving.gpus}",
    }.get(text, text.replace("/models/model", path))


def _volume(model: Model, serving: Serving) -> Object:
    if serving.mode == "pvc":
        return {"name": "model", "persistentVolumeClaim": {"claimName": _claim(model, serving), "readOnly": True}}
    reference = f"{model.repository}@{model.digest}"
    return {"name": "model", "image": {"reference": reference, "pullPolicy": "IfNotPresent"}}


def _warm(weights: Digest, *, required: bool) -> Object:
    term = _exists(warm_label(weights))
    if required:
        return {"requiredDuringSchedulingIgnoredDuringExecution": {"nodeSelectorTerms": [term]}}
    return {"preferredDuringSchedulingIgnoredDuringExecution": [{"weight": 100, "preference": term}]}


def _exists(label: str) -> Object:
    return {"matchExpressions": [{"key": label, "operator": "Exists"}]}


def _claim(model: Model, serving: Serving) -> str:
    return f"{serving.name}-{short(model.digest)}"


_FILLERS = {
    "PersistentVolume": _fill_volume,
    "PersistentVolumeClaim": _fill_claim,
    "Deployment": _fill_deployment,
    "Service": _fill_service,
}
