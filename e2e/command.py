"""Run real commands, and say what is in a folder or a layer: what the tests here compare."""

from __future__ import annotations

import hashlib
import json
import subprocess
import sys
import tarfile
from pathlib import Path
from typing import Any, NamedTuple

MODELCTL = str(Path(sys.executable).with_name("modelctl"))


class CommandFailed(Exception):
    """A command ended with another status than 0; the message has all that it printed."""


def run(*command: str | Path, cwd: Path | None = None) -> str:
    """Run a command and return its stdout.

    Raises:
        CommandFailed: With its stdout and stderr.
    """
    done = subprocess.run([*map(str, command)], cwd=cwd, capture_output=True, text=True, check=False)
    if done.returncode:
        raise CommandFailed(f"{command} ended with {done.returncode}\n{done.stdout}\n{done.stderr}")
    return done.stdout


def modelctl(*arguments: str | Path) -> str:
    return run(MODELCTL, *arguments)


class Ended(NamedTuple):
    """How a command ended, and all that it printed."""

    status: int
    stdout: str
    stderr: str


def ended(*command: str | Path) -> Ended:
    """Run a command that may fail."""
    done = subprocess.run([*map(str, command)], capture_output=True, text=True, check=False)
    return Ended(done.returncode, done.stdout, done.stderr)


def modelctl_json(*arguments: str | Path) -> Any:
    return json.loads(modelctl(*arguments, "--output", "json"))


def files(folder: Path) -> dict[str, str]:
    """Return the sha256 of every file under `folder`, by its path in there."""
    paths = sorted(path for path in folder.rglob("*") if path.is_file())
    return {path.relative_to(folder).as_posix(): sha256(path.read_bytes()) for path in paths}


def tar_files(blob: Path) -> dict[str, str]:
    """Return the sha256 of every file in a tar, by its path in there."""
    with tarfile.open(blob) as tar:
        return {member.name: sha256(file.read()) for member in tar if (file := tar.extractfile(member))}


def sha256(data: bytes) -> str:
    return hashlib.sha256(data).hexdigest()


def blob_path(layout: Path, digest: str) -> Path:
    """Return where an OCI layout keeps a blob."""
    return layout / "blobs" / digest.replace(":", "/")


def manifest_of(layout: Path, tag: str) -> dict[str, Any]:
    """Return the manifest of a tag, found as any OCI tool finds it."""
    index = json.loads((layout / "index.json").read_bytes())
    name = "org.opencontainers.image.ref.name"
    (found,) = [item for item in index["manifests"] if item.get("annotations", {}).get(name) == tag]
    manifest: dict[str, Any] = json.loads(blob_path(layout, found["digest"]).read_bytes())
    return manifest
