"""render as a user types it."""

from __future__ import annotations

import json
from pathlib import Path

import yaml

from tests.cli.program import run

REFERENCE = "registry.example/qwen/qwen3-8b@sha256:" + "0" * 64


def test_yaml_is_what_stdout_carries() -> None:
    ended = run("render", REFERENCE, "--offline")
    kinds = [found["kind"] for found in yaml.safe_load_all(ended.stdout)]
    assert kinds == ["Deployment", "Service"]


def test_why_it_chose_so_stands_on_stderr() -> None:
    ended = run("render", REFERENCE, "--offline", "--kube-version", "1.34")
    assert ended.stderr.startswith("pvc: in Kubernetes 1.34 the feature gate ImageVolume is off")


def test_quiet_says_nothing() -> None:
    assert run("render", REFERENCE, "--offline", "--quiet").stderr == ""


def test_json_is_a_list_that_kubectl_takes() -> None:
    document = json.loads(run("render", REFERENCE, "--offline", "--as", "pvc", "-o", "json").stdout)
    assert (document["kind"], len(document["items"])) == ("List", 4)


def test_a_kustomization_goes_into_a_folder(tmp_path: Path) -> None:
    ended = run("render", REFERENCE, "--offline", "-o", "kustomize", "--output-dir", tmp_path / "out")
    assert ended.stdout.splitlines() == [
        str(tmp_path / "out" / name) for name in ("deployment.yaml", "service.yaml", "kustomization.yaml")
    ]


def test_a_kustomization_without_a_folder_is_refused() -> None:
    ended = run("render", REFERENCE, "--offline", "-o", "kustomize")
    assert (ended.returncode, "--output-dir" in ended.stderr) == (2, True)


def test_a_folder_without_a_kustomization_is_refused(tmp_path: Path) -> None:
    ended = run("render", REFERENCE, "--offline", "--output-dir", tmp_path)
    assert (ended.returncode, list(tmp_path.iterdir())) == (2, [])
