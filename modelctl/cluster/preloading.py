"""The objects that bring a model to nodes, keep it there and remove it: `kube/preload` and `kube/hold`, filled in.

Pure and deterministic: the same model, choices and node give the same objects, whatever the time and the place.
"""

from __future__ import annotations

import hashlib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Literal

from modelctl.cluster.labels import COMPONENT_LABEL, MANAGED, MODEL_LABEL, NODE_ANNOTATION, Object, short
from modelctl.cluster.quantities import parse_quantity, to_quantity
from modelctl.cluster.templates import load_template
from modelctl.core.choices import PreloadMode
from modelctl.core.types import Digest

HOST_NAMESPACE = "modelctl-system"
"""Where pods run that write to a folder of the host, unless the user says otherwise."""

Component = Literal["preload", "hold", "remove"]
"""What an object does; the value of its label, and the start of its name."""

_TEMPLATE_DIGEST, _TEMPLATE_TABLE = "0" * 64, "1" * 64
_TEMPLATE_REPOSITORY = "registry.example/models/model"
_TEMPLATE_IMAGE = "registry.example/tools/modelctl:latest"
_OFTENEST_S, _LOOKED_AT = 30, 512 << 20
"""How often a holder looks [s], and how much it looks at in a second on the average [bytes]: 1 % of a core.

Measured: 20 ms of CPU for a look at 1 GiB; see docs/node.md.
"""

_CREDENTIALS, _CA = "/credentials", "/ca"


@dataclass(frozen=True, kw_only=True)
class Preload:
    """What nodes get, and how.

    `repository` is `host[:port]/name` as the cluster's nodes pull it; `table` is the digest of the artifact's table,
    `size` what the files take [bytes]; `image` is modelctl's own. `deadline_s` bounds a Job [s]. `registry_flags` are
    those of `node pull`, and `ca` is PEM text: both for host mode, where a pod pulls and no runtime does.
    """

    mode: PreloadMode
    repository: str
    digest: Digest
    table: Digest
    size: int
    namespace: str
    image: str
    pull_secret: str = ""
    service_account: str = ""
    tolerations: Sequence[Object] = ()
    deadline_s: int
    registry_flags: Sequence[str] = ()
    ca: str = ""

    @property
    def reference(self) -> str:
        return f"{self.repository}@{self.digest}"


def preload_job(preload: Preload, node: str) -> Object:
    """Return the Job that brings the model into the memory of `node`; in host mode first onto its disk."""
    return _job(f"preload/{preload.mode}", "preload", preload, node)


def removal_job(preload: Preload, node: str) -> Object:
    """Return the Job that removes the model from the host's folder on `node`."""
    return _job("preload/remove", "remove", preload, node)


def holder(preload: Preload, expressions: Sequence[Object]) -> Object:
    """Return the DaemonSet that keeps the model in the memory of nodes.

    Its pods request that memory, since the kubelet counts the pages as used.

    Args:
        preload: What they hold.
        expressions: What the labels of a node must meet, as `parse_selector` returns it; none is every node.
    """
    found = _filled(f"hold/{preload.mode}", holder_name(preload.digest), preload)
    pod = found["spec"]["template"]["spec"]
    affinity = pod["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    affinity["nodeSelectorTerms"] = [{"matchExpressions": list(expressions)}]
    if not expressions:
        del pod["affinity"]
    container = pod["containers"][0]
    requests = container["resources"]["requests"]
    requests["memory"] = to_quantity(preload.size + parse_quantity(requests["memory"]))
    container["args"] += ["--interval", str(max(_OFTENEST_S, preload.size // _LOOKED_AT))]
    return found


def host_namespace(name: str) -> Object:
    """Return the namespace whose pods may write to a folder of the host."""
    (found,) = load_template("preload/namespace")
    found["metadata"]["name"] = name
    return found


def ca_config(preload: Preload) -> Object:
    """Return the ConfigMap of the CA that pods of host mode trust; they name it when `preload.ca` is not empty."""
    (like,) = load_template("preload/host")
    metadata = _replaced(like["metadata"], preload)
    del metadata["annotations"][NODE_ANNOTATION]
    metadata |= {"name": _ca_name(preload.digest), "namespace": preload.namespace}
    return {"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"ca.crt": preload.ca}}


def job_name(component: Component, digest: Digest, node: str) -> str:
    """Return the name of a Job: the same for the same node, and within 63 characters however long a node's name is."""
    return f"{component}-{short(digest)}-{hashlib.sha256(node.encode()).hexdigest()[:10]}"


def holder_name(digest: Digest) -> str:
    """Return the name of the DaemonSet."""
    return f"hold-{short(digest)}"


def selector_of(digest: Digest, *components: Component) -> str:
    """Return the label selector of what `components` did for a model; for all of them when none is named."""
    chosen = [f"{COMPONENT_LABEL} in ({','.join(components)})"] if components else []
    return ",".join([MANAGED, f"{MODEL_LABEL}={short(digest)}", *chosen])


def _job(template: str, component: Component, preload: Preload, node: str) -> Object:
    found = _filled(template, job_name(component, preload.digest, node), preload)
    spec = found["spec"]
    spec["activeDeadlineSeconds"] = preload.deadline_s
    for metadata in (found["metadata"], spec["template"]["metadata"]):
        metadata["annotations"][NODE_ANNOTATION] = node
    affinity = spec["template"]["spec"]["affinity"]["nodeAffinity"]["requiredDuringSchedulingIgnoredDuringExecution"]
    affinity["nodeSelectorTerms"][0]["matchFields"][0]["values"] = [node]
    return found


def _filled(template: str, name: str, preload: Preload) -> Object:
    (like,) = load_template(template)
    found: Object = _replaced(like, preload)
    found["metadata"] |= {"name": name, "namespace": preload.namespace}
    pod = found["spec"]["template"]["spec"]
    if preload.service_account:
        pod["serviceAccountName"] = preload.service_account
    if preload.pull_secret:
        pod["imagePullSecrets"] = [{"name": preload.pull_secret}]
    if preload.tolerations:
        pod["tolerations"] = [dict(toleration) for toleration in preload.tolerations]
    if "initContainers" in pod:
        _reach_registry(pod, preload)
    return found


def _reach_registry(pod: Object, preload: Preload) -> None:
    """Give the container that pulls what a runtime has of its own: credentials, a CA, and whether there is TLS."""
    (pull,) = pod["initContainers"]
    if preload.pull_secret:
        items = [{"key": ".dockerconfigjson", "path": "config.json"}]
        secret = {"secretName": preload.pull_secret, "items": items, "defaultMode": 0o400}
        _mount(pod, "credentials", _CREDENTIALS, {"secret": secret})
        pull["args"] += ["--authfile", f"{_CREDENTIALS}/config.json"]
    if preload.ca:
        _mount(pod, "ca", _CA, {"configMap": {"name": _ca_name(preload.digest)}})
        pull["args"] += ["--ca-file", f"{_CA}/ca.crt"]
    pull["args"] += preload.registry_flags


def _mount(pod: Object, name: str, path: str, volume: Object) -> None:
    pod["volumes"].append({"name": name, **volume})
    pod["initContainers"][0]["volumeMounts"].append({"name": name, "mountPath": path, "readOnly": True})


def _ca_name(digest: Digest) -> str:
    return f"ca-{short(digest)}"


def _replaced(value: Any, preload: Preload) -> Any:
    """Return a template's value with what stands in it for the model and for modelctl's image replaced."""
    return _substituted(
        value,
        {
            _TEMPLATE_DIGEST: preload.digest.removeprefix("sha256:"),
            _TEMPLATE_TABLE: preload.table.removeprefix("sha256:"),
            _TEMPLATE_DIGEST[:16]: short(preload.digest),
            _TEMPLATE_REPOSITORY: preload.repository,
            _TEMPLATE_IMAGE: preload.image,
        },
    )


def _substituted(value: Any, given: Mapping[str, str]) -> Any:
    """Replace in every text of `value`, in one pass: what is given is not looked at again."""
    if isinstance(value, dict):
        return {key: _substituted(item, given) for key, item in value.items()}
    if isinstance(value, list):
        return [_substituted(item, given) for item in value]
    if isinstance(value, str):
        return re.sub("|".join(map(re.escape, given)), lambda found: given[found[0]], value)
    return value
