"""Other tools doing the same work to and from a layout.

skopeo copies ready layers: `dir:` to `oci:` and back. oras-py reaches a layout only through a registry, so it pushes
the files to one on loopback (distribution, on the other core) and pulls the layout from it; and back.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path

from e2e.bench.measure import SERVER_CORE
from tests.fakes.registries import DISTRIBUTION, Registry, registry

_TO_LAYOUT = """\
import os, sys, oras.client, oras.layout
folder, host, out = sys.argv[1:]
os.chdir(folder)
client = oras.client.OrasClient(hostname=host, insecure=True)
files = [os.path.relpath(os.path.join(base, name)) for base, _, names in os.walk(".") for name in names]
client.push(target=f"{host}/model:v1", files=files, disable_path_validation=True)
oras.layout.NewLayoutFromRegistry(path=out, provider=client, target=f"{host}/model:v1", tag="v1")
"""

_PUSH = """\
import os, sys, oras.client
folder, host = sys.argv[1:]
os.chdir(folder)
client = oras.client.OrasClient(hostname=host, insecure=True)
files = [os.path.relpath(os.path.join(base, name)) for base, _, names in os.walk(".") for name in names]
client.push(target=f"{host}/oras:v1", files=files, disable_path_validation=True)
"""

_PULL = """\
import sys, oras.client
host, out = sys.argv[1:]
oras.client.OrasClient(hostname=host, insecure=True).pull(target=f"{host}/oras:v1", outdir=out)
"""

_FROM_LAYOUT = """\
import sys, oras.client, oras.layout
layout, host, out = sys.argv[1:]
client = oras.client.OrasClient(hostname=host, insecure=True)
oras.layout.NewLayout(layout).push_to_registry(provider=client, target=f"{host}/back:v1", tag="v1")
client.pull(target=f"{host}/back:v1", outdir=out)
"""


def skopeo(source: str, destination: str) -> list[str]:
    return ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", source, destination]


def oras_to_layout(folder: Path, host: str, out: Path) -> list[str]:
    return [sys.executable, "-c", _TO_LAYOUT, str(folder), host, str(out)]


def oras_push(folder: Path, host: str) -> list[str]:
    return [sys.executable, "-c", _PUSH, str(folder), host]


def oras_pull(host: str, out: Path) -> list[str]:
    return [sys.executable, "-c", _PULL, host, str(out)]


def oras_from_layout(layout: Path, host: str, out: Path) -> list[str]:
    return [sys.executable, "-c", _FROM_LAYOUT, str(layout), host, str(out)]


@contextmanager
def pinned_registry(root: Path, program: Sequence[str] = DISTRIBUTION) -> Iterator[Registry]:
    """Run a plain registry on the server's core."""
    with registry(root, program=("taskset", "--cpu-list", str(SERVER_CORE), *program)) as server:
        yield server
