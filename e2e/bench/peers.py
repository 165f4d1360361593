"""Other tools doing the same work to and from a layout.

skopeo copies ready layers: `dir:` to `oci:` and back. oras-py reaches a layout only through a registry, so it pushes
the files to one on loopback (distribution, on the other core) and pulls the layout from it; and back.
"""

from __future__ import annotations

import shutil
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.bench.measure import SERVER_CORE

_CONFIG = """\
version: 0.1
storage:
  filesystem: {{rootdirectory: {root}}}
  delete: {{enabled: true}}
http: {{addr: "127.0.0.1:{port}"}}
log: {{level: error, accesslog: {{disabled: true}}}}
"""

_TO_LAYOUT = """\
import os, sys, oras.client, oras.layout
folder, port, out = sys.argv[1:]
os.chdir(folder)
client = oras.client.OrasClient(hostname=f"127.0.0.1:{port}", insecure=True)
files = [os.path.relpath(os.path.join(base, name)) for base, _, names in os.walk(".") for name in names]
client.push(target=f"127.0.0.1:{port}/model:v1", files=files, disable_path_validation=True)
oras.layout.NewLayoutFromRegistry(path=out, provider=client, target=f"127.0.0.1:{port}/model:v1", tag="v1")
"""

_FROM_LAYOUT = """\
import sys, oras.client, oras.layout
layout, port, out = sys.argv[1:]
client = oras.client.OrasClient(hostname=f"127.0.0.1:{port}", insecure=True)
oras.layout.NewLayout(layout).push_to_registry(provider=client, target=f"127.0.0.1:{port}/back:v1", tag="v1")
client.pull(target=f"127.0.0.1:{port}/back:v1", outdir=out)
"""


def skopeo(source: str, destination: str) -> list[str]:
    return ["skopeo", "copy", "--quiet", "--dest-oci-accept-uncompressed-layers", source, destination]


def oras_to_layout(folder: Path, port: int, out: Path) -> list[str]:
    return [sys.executable, "-c", _TO_LAYOUT, str(folder), str(port), str(out)]


def oras_from_layout(layout: Path, port: int, out: Path) -> list[str]:
    return [sys.executable, "-c", _FROM_LAYOUT, str(layout), str(port), str(out)]


class Registry:
    """A distribution on loopback, on the server's core, whose storage can be emptied between runs."""

    def __init__(self, root: Path) -> None:
        self.root = root
        with socket.socket() as free:
            free.bind(("127.0.0.1", 0))
            self.port = free.getsockname()[1]

    def empty(self) -> None:
        shutil.rmtree(self.root / "docker", ignore_errors=True)


@contextmanager
def registry(root: Path) -> Iterator[Registry]:
    """Start a registry, wait until it answers, and end it with the `with`."""
    root.mkdir(parents=True)
    server = Registry(root)
    config = root / "config.yml"
    config.write_text(_CONFIG.format(root=root, port=server.port))
    process = subprocess.Popen(
        ["taskset", "--cpu-list", str(SERVER_CORE), "docker-registry", "serve", str(config)],
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        _wait(server.port)
        yield server
    finally:
        process.terminate()
        process.wait()


def _wait(port: int) -> None:
    deadline = time.monotonic() + 20
    while True:
        try:
            with urllib.request.urlopen(f"http://127.0.0.1:{port}/v2/"):
                return
        except OSError:
            if time.monotonic() > deadline:
                raise
            time.sleep(0.05)
