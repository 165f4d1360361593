"""Render the Kubernetes objects that serve an artifact: ask the registry what it is, choose how, fill in `kube/`."""

from __future__ import annotations

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path

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
from modelctl.cluster.versions import KubeVersion, parse_kube_version, why_image_volume, why_no_image_volume
from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import Engine, Mode
from modelctl.core.config import load_config
from modelctl.core.disk import on_disk, replace_file
from modelctl.core.errors import Conflict, Denied, Invalid, ModelctlError, NotFound, UsageProblem
from modelctl.core.paths import check_path
from modelctl.core.reference import LATEST, Reference
from modelctl.core.types import parse_digest
from modelctl.flows.regions import in_region, place
from modelctl.flows.stores import open_artifact, open_store
from modelctl.packing.artifact import Artifact

MAX_LAYERS = 127
"""Most layers that every runtime mounts. Source: podman 4 and CRI-O 1.25 stop at 128."""


@dataclass(frozen=True, kw_only=True)
class RenderOptions:
    """What the user may choose; the names are those of the flags. No `mode` is: choose for me."""

    mode: Mode | None = None
    engine: Engine = "vllm"
    name: str = ""
    namespace: str = "default"
    kube_version: str = "1.36"
    image_volume_gate: bool = False
    region: str = ""
    image: str = ""
    gpus: int | None = None
    sub_path: str = ""
    pull_secret: str = ""
    service_account: str = ""
    require_warm: bool = False
    offline: bool = False
    access: Access = DEFAULT


@dataclass(frozen=True)
class Rendered:
    """The objects in the order in which they are applied, how pods get the model and why so, and what to know."""

    objects: Sequence[Object]
    mode: Mode
    why: str
    notes: Sequence[str] = field(default_factory=list)


def render(reference: Reference, options: RenderOptions) -> Rendered:
    """Return the objects that serve `reference`, pinned by digest.

    Raises:
        UsageProblem: A choice that contradicts another, or would not mount; says what to do.
        NotFound, Denied, Unavailable: The registry does not show the artifact. Invalid: It is not one.
    """
    there, access = _placed(reference, options)
    options = replace(options, access=access)
    version = parse_kube_version(options.kube_version)
    name = check_name(options.name or name_of(there.path), "--name")
    check_namespace(options.namespace)
    check_secret_name(options.pull_secret, "--pull-secret")
    check_secret_name(options.service_account, "--service-account")
    if options.image and not re.fullmatch(r"[\w./:@-]+", options.image):
        raise UsageProblem(f"--image {options.image[:200]!r}", why="it is not the name of an image")
    if options.gpus and options.engine == "none":
        raise UsageProblem("--gpus with --engine none", why="nothing would use them")
    artifact = None if options.offline else open_artifact(there, options.access)[1]
    mode, why = _choose(artifact, version, options)
    _check_sub_path(options.sub_path, artifact, mode)
    serving = Serving(
        mode=mode,
        engine=options.engine,
        name=name,
        namespace=options.namespace,
        image=options.image,
        gpus=options.gpus or 1,
        sub_path=options.sub_path,
        pull_secret=options.pull_secret,
        service_account=options.service_account,
        require_warm=options.require_warm,
    )
    notes = [_OFFLINE] if options.offline else _secret_notes(there, mode, options)
    return Rendered(render_serving(_model(there, artifact), serving), mode, why, notes)


_OFFLINE = (
    "offline: not checked whether the artifact is there and mounts; its size and its weights are not known, so no "
    "memory is requested for it and no warm node preferred"
)


def _placed(reference: Reference, options: RenderOptions) -> tuple[Reference, Access]:
    """Return where pods pull from, the region's registry when one is named, and how to reach it."""
    if not reference.registry:
        raise UsageProblem(
            f"cannot render {reference}",
            why="no pod can pull from a folder",
            hint=f"modelctl push {reference} REGISTRY/REPOSITORY:TAG, and render that",
        )
    if options.offline and not reference.digest:
        raise UsageProblem(
            f"cannot render {reference} offline",
            why="only a registry can say which digest a tag names",
            hint=f"{reference.store}@sha256:..., as modelctl digest prints it",
        )
    if options.offline and options.require_warm:
        raise UsageProblem(
            "--require-warm with --offline",
            why="nodes are labelled warm by the digest of the weights, which is in the registry",
            hint="leave one of the two out",
        )
    if not options.region:
        return reference, options.access
    config = load_config()
    if options.offline:
        return in_region(reference, options.region, config), options.access
    return place(reference, options.region, config, options.access)


def _check_sub_path(path: str, artifact: Artifact | None, mode: Mode) -> None:
    """Demand that a folder of that name is in what is mounted; a claim's files stand without the layout's prefix."""
    if not path:
        return
    try:
        check_path(path)
    except Invalid as error:
        raise UsageProblem(f"--sub-path {path[:200]!r}", why=error.why) from error
    prefix = artifact.table.prefix if artifact and mode == "image-volume" else ""
    if artifact and not any(f"{prefix}{row.path}".startswith(f"{path}/") for row in artifact.table.rows):
        raise UsageProblem(
            f"--sub-path {path[:200]!r}",
            why=f"no file of the artifact is below it, mounted as {mode}",
            hint="modelctl inspect",
        )


def _choose(artifact: Artifact | None, version: KubeVersion, options: RenderOptions) -> tuple[Mode, str]:
    """Return how pods get the model, and why so.

    Raises:
        UsageProblem: It was asked for what would not mount.
    """
    if options.mode == "pvc":
        return "pvc", "asked for"
    no_layout = why_not_mountable(artifact) if artifact else ""
    no_version = why_no_image_volume(version, gate=options.image_volume_gate, sub_path=bool(options.sub_path))
    if not no_layout and not no_version:
        return "image-volume", why_image_volume(version)
    if not options.mode:
        return "pvc", no_layout or no_version
    if no_layout:
        hint = "modelctl pack --layout image makes one that mounts; or --as pvc, which takes any"
        raise UsageProblem("the artifact would not mount as an image volume", why=no_layout, hint=hint)
    hint = "--image-volume-gate when it is on in yours, or --as pvc"
    if options.image_volume_gate or version < KubeVersion(1, 31):
        hint = "--as pvc"
    raise UsageProblem("pods could not mount the image volume", why=no_version, hint=hint)


def why_not_mountable(artifact: Artifact) -> str:
    """Return why pods cannot mount an artifact as an image volume, or nothing when they can."""
    layers = len(artifact.manifest.layers)
    if layers > MAX_LAYERS:
        return f"it has {layers} layers; runtimes mount {MAX_LAYERS} (pack it with --max-layers 110)"
    return artifact.why_not_mountable


def _model(place: Reference, artifact: Artifact | None) -> Model:
    repository, tag = f"{place.registry}/{place.path}", place.tag
    if artifact is None:
        return Model(repository=repository, tag=tag, digest=parse_digest(place.digest or ""))
    return Model(
        repository=repository,
        tag=tag or ("" if place.digest else LATEST),
        digest=artifact.root.digest,
        weights=artifact.weights,
        size=artifact.size,
        prefix=artifact.table.prefix,
    )


def _secret_notes(place: Reference, mode: Mode, options: RenderOptions) -> list[str]:
    """Say it when pods would be refused: the registry wants credentials, and none are named."""
    if mode == "pvc" or options.pull_secret or options.service_account:
        return []
    try:
        open_store(place, replace(options.access, credentials=False)).resolve(place.name)
    except (Denied, NotFound):
        return [
            f"{place.registry} wants credentials, and the pods name none: unless the nodes have some they end in "
            f"ErrImagePull. Try: kubectl -n {options.namespace} create secret docker-registry NAME "
            f"--docker-server={place.registry} --docker-username=... --docker-password=..., and --pull-secret NAME"
        ]
    except ModelctlError:
        return []
    return []


def write_kustomization(objects: Sequence[Object], folder: str) -> list[str]:
    """Write each object into a file of `folder`, and the kustomization that lists them; return their paths.

    What an earlier run wrote is replaced, or removed when it is not of this one.

    Raises:
        Conflict: Somebody else wrote a file of that name. Nothing was written.
    """
    files = {f"{found['kind'].lower()}.yaml": found for found in objects}
    files["kustomization.yaml"] = {
        "apiVersion": "kustomize.config.k8s.io/v1beta1",
        "kind": "Kustomization",
        "resources": list(files),
    }
    root = Path(folder)
    with on_disk(folder):
        root.mkdir(parents=True, exist_ok=True)
        written = {path.name for path in root.glob("*.yaml") if path.read_bytes().startswith(_WRITTEN.encode())}
        for name in files:
            if (root / name).exists() and name not in written:
                raise Conflict(str(root / name), why="somebody else wrote it", hint="name another folder")
        for name in written - set(files):
            (root / name).unlink()
    for name, found in files.items():
        replace_file(root / name, (_WRITTEN + to_yaml([found])).encode())
    return [str(root / name) for name in files]


_WRITTEN = "# Written by modelctl render; the next run into this folder replaces it.\n"
