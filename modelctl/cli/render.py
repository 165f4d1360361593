"""`modelctl render`."""

from __future__ import annotations

from enum import StrEnum
from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, QuietFlag, ReferenceArgument
from modelctl.core.access import DEFAULT, Access
from modelctl.core.choices import Engine, Mode


class Format(StrEnum):
    """How objects are written."""

    yaml = "yaml"
    json = "json"
    kustomize = "kustomize"


@reaching_registries
def render(
    reference: ReferenceArgument,
    mode: Annotated[
        Mode | None,
        typer.Option("--as", help="Mount the artifact as an image, or files that nodes have. Without: what works."),
    ] = None,
    engine: Annotated[Engine, typer.Option(help="What serves the model.")] = "vllm",
    name: Annotated[str, typer.Option(help="Name of the objects. Without: the repository's last part.")] = "",
    namespace: Annotated[str, typer.Option("--namespace", "-n", help="Namespace of the objects.")] = "default",
    kube_version: Annotated[str, typer.Option(metavar="VERSION", help="The cluster's Kubernetes.")] = "1.36",
    image_volume_gate: Annotated[
        bool, typer.Option("--image-volume-gate", help="Its feature gate ImageVolume is on; needed below 1.35.")
    ] = False,
    region: Annotated[
        str, typer.Option(metavar="NAME", help="Pull from the registry of this region of the settings.")
    ] = "",
    image: Annotated[str, typer.Option(help="The engine's container image. Without: the one in kube/engine.")] = "",
    gpus: Annotated[
        int | None, typer.Option(min=1, max=64, help="GPUs of a pod, and the tensor parallel size. Without: 1.")
    ] = None,
    sub_path: Annotated[str, typer.Option(metavar="PATH", help="Mount only this folder of the artifact.")] = "",
    pull_secret: Annotated[str, typer.Option(metavar="NAME", help="Secret with which pods pull.")] = "",
    service_account: Annotated[str, typer.Option(metavar="NAME", help="Service account of the pods.")] = "",
    require_warm: Annotated[
        bool, typer.Option("--require-warm", help="Only on nodes that have the weights in memory; else preferred.")
    ] = False,
    offline: Annotated[
        bool, typer.Option("--offline", help="Ask no registry; needs a digest, and checks nothing.")
    ] = False,
    output: Annotated[Format, typer.Option("--output", "-o", help="How to write the objects.")] = Format.yaml,
    output_dir: Annotated[str, typer.Option(metavar="DIR", help="Where to put the files of --output kustomize.")] = "",
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Print the Kubernetes objects that serve an artifact, pinned by its digest.

    What would not mount is refused: the artifact's layout, the version of Kubernetes, too many layers. On stderr
    stands which way was chosen, and why.

    \b
    Examples:
      modelctl render registry.example/qwen/qwen3-8b:v1 | kubectl apply -f -
      modelctl render registry.example/qwen/qwen3-8b:v1 --as pvc -n ml --engine sglang --gpus 2
      modelctl render registry.example/qwen/qwen3-8b:v1 -o kustomize --output-dir ./qwen3-8b
    """
    from modelctl.core.errors import UsageProblem
    from modelctl.core.reference import parse_reference
    from modelctl.flows.render import RenderOptions, write_kustomization
    from modelctl.flows.render import render as run

    if (output is Format.kustomize) != bool(output_dir):
        raise UsageProblem("--output kustomize and --output-dir go together", why="the one writes into the other")
    options = RenderOptions(
        mode=mode,
        engine=engine,
        name=name,
        namespace=namespace,
        kube_version=kube_version,
        image_volume_gate=image_volume_gate,
        region=region,
        image=image,
        gpus=gpus,
        sub_path=sub_path,
        pull_secret=pull_secret,
        service_account=service_account,
        require_warm=require_warm,
        offline=offline,
        access=access,
    )
    rendered = run(parse_reference(reference), options)
    report.note(f"{rendered.mode}: {rendered.why}", quiet=quiet)
    for note in rendered.notes:
        report.note(f"note: {note}", quiet=quiet)
    if output is Format.kustomize:
        report.print_text("".join(f"{path}\n" for path in write_kustomization(rendered.objects, output_dir)))
    elif output is Format.json:
        report.print_json({"apiVersion": "v1", "kind": "List", "items": rendered.objects})
    else:
        from modelctl.cluster.serving import to_yaml

        report.print_bytes(to_yaml(rendered.objects).encode())
