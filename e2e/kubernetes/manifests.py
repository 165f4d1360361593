"""Models in the cluster's registries, and objects that mount them.

`modelctl render` writes the objects, but for pods of one node and for what it refuses.
"""

from __future__ import annotations

import json
from pathlib import Path

from e2e.command import modelctl
from e2e.kubernetes.namespace import Namespace

_RESTRICTED = {
    "runAsNonRoot": True,
    "runAsUser": 65532,
    "allowPrivilegeEscalation": False,
    "capabilities": {"drop": ["ALL"]},
    "readOnlyRootFilesystem": True,
    "seccompProfile": {"type": "RuntimeDefault"},
}


def pack(model: Path, reference: str, *flags: str) -> str:
    """Pack a model straight into a registry without TLS; return its reference by digest."""
    return modelctl("pack", model, reference, "--plain-http", "--quiet", *flags).strip()


def rendered(reference: str, namespace: Namespace, mode: str, *flags: str, engine: str = "none") -> str:
    """Return what `modelctl render` writes for an artifact of a registry without TLS."""
    place = ("--namespace", namespace.name, "--as", mode, "--engine", engine)
    return modelctl("render", reference, "--plain-http", *place, *flags)


def vllm_shaped(reference: str, namespace: Namespace, image: str) -> str:
    """Return what `modelctl render` writes for vLLM, with the needs and the process of a pod that sleeps.

    No node here has a GPU, four cores, or vLLM: of the pod stay its volumes, its affinity and its security context.
    """
    objects = json.loads(rendered(reference, namespace, "image-volume", "--image", image, "-o", "json", engine="vllm"))
    (deployment,) = [found for found in objects["items"] if found["kind"] == "Deployment"]
    (container,) = deployment["spec"]["template"]["spec"]["containers"]
    for name in ("command", "args", "resources", "startupProbe", "readinessProbe", "livenessProbe"):
        del container[name]
    return json.dumps(objects)


def image_pod(name: str, image: str, model: str, node: str, secret: str = "") -> str:
    """Return a pod of a node that mounts the image `model` at /model, which it pulls with `secret` if one is named."""
    pod = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": name},
        "spec": {
            "containers": [_container(image, mount="/model")],
            "imagePullSecrets": [{"name": secret}] if secret else [],
            "nodeSelector": {"kubernetes.io/hostname": node},
            "volumes": [{"name": "main", "image": {"reference": model}}],
        },
    }
    return json.dumps(pod)


def web_server(name: str, image: str) -> str:
    """Return a pod for each node that serves the node's name, their Service, and a headless one, NAME-pods."""
    labels = {"app": name}
    node_name = {"name": "NODE", "valueFrom": {"fieldRef": {"fieldPath": "spec.nodeName"}}}
    serve = "echo $NODE > /www/index.html; exec httpd -f -p 8080 -h /www"
    container = _container(image, mount="/www") | {"command": ["sh", "-c", serve], "env": [node_name]}
    pod = {"containers": [container], "volumes": [{"name": "main", "emptyDir": {}}]}
    daemon_set = {
        "apiVersion": "apps/v1",
        "kind": "DaemonSet",
        "metadata": {"name": name},
        "spec": {"selector": {"matchLabels": labels}, "template": {"metadata": {"labels": labels}, "spec": pod}},
    }
    port = {"port": 80, "targetPort": 8080}
    services = [
        {"apiVersion": "v1", "kind": "Service", "metadata": {"name": service}, "spec": {"selector": labels, **more}}
        for service, more in ((name, {"ports": [port]}), (f"{name}-pods", {"ports": [port], "clusterIP": "None"}))
    ]
    return json.dumps({"apiVersion": "v1", "kind": "List", "items": [daemon_set, *services]})


def _container(image: str, mount: str) -> dict[str, object]:
    return {
        "name": "main",
        "image": image,
        "securityContext": _RESTRICTED,
        "volumeMounts": [{"name": "main", "mountPath": mount}],
    }
