"""Private container engines: podman and containerd with storage, sockets and mounts of their own.

Each command runs in namespaces that end with it, so that no mount and no process outlives a test.
"""

from __future__ import annotations

import subprocess
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from e2e.command import CommandFailed, run

_BUSYBOX = "/usr/bin/busybox"
_START_S = 20
_CONTAINERD = """\
version = 2
root = "{room}/root"
state = "{room}/state"
disabled_plugins = ["io.containerd.grpc.v1.cri"]
[grpc]
  address = "{room}/containerd.sock"
[ttrpc]
  address = "{room}/containerd.ttrpc"
"""


def isolated(script: str, *arguments: str | Path) -> str:
    """Run a shell script in a mount and a PID namespace of its own."""
    return run(
        "unshare", "--mount", "--pid", "--fork", "--mount-proc", "--kill-child", "sh", "-ec", script, "sh", *arguments
    )


class Podman:
    """podman with its storage in `room`.

    It sees a plain cgroup v2 tree, whatever the machine has: crun refuses the hybrid one.
    """

    def __init__(self, room: Path) -> None:
        self._options: list[str | Path] = [
            *("--root", room / "root", "--runroot", room / "run", "--tmpdir", room / "tmp"),
            *("--storage-driver", "overlay", "--runtime", "crun", "--cgroup-manager", "cgroupfs"),
            *("--events-backend", "none"),
        ]

    def __call__(self, *arguments: str | Path) -> str:
        return isolated('mount -t cgroup2 none /sys/fs/cgroup; podman "$@" || exit', *self._options, *arguments).strip()

    def busybox(self, room: Path) -> str:
        """Import an image of busybox alone and return its ID."""
        run("tar", "-cf", room / "busybox.tar", "-C", "/usr/bin", "busybox")
        return self("import", "--quiet", room / "busybox.tar").removeprefix("sha256:")

    def run_with(self, image: str, model: str, script: str) -> str:
        """Run a script in a container of `image`, with the image `model` mounted at /model.

        Limits are stated: podman's own defaults need CAP_SYS_RESOURCE.
        """
        return self(
            *("run", "--rm", "--network", "none", "--cgroups", "disabled"),
            *("--ulimit", "nofile=1024:1024", "--ulimit", "nproc=1024:1024"),
            *("--mount", f"type=image,source={model},destination=/model"),
            *(image, "/busybox", "sh", "-c", script),
        )


@contextmanager
def containerd(room: Path) -> Iterator[str]:
    """Run a containerd with everything it writes in `room`; yield its socket."""
    config = room / "containerd.toml"
    config.write_text(_CONTAINERD.format(room=room))
    with (room / "containerd.log").open("wb") as log:
        process = subprocess.Popen(["unshare", "--mount", "containerd", "--config", config], stdout=log, stderr=log)
    try:
        socket = f"{room}/containerd.sock"
        _wait_for(socket, room / "containerd.log")
        yield socket
    finally:
        process.terminate()
        process.wait()


def _wait_for(socket: str, log: Path) -> None:
    deadline = time.monotonic() + _START_S
    while True:
        try:
            run("ctr", "--address", socket, "--connect-timeout", "1s", "version")
        except CommandFailed as error:
            if time.monotonic() > deadline:
                raise CommandFailed(f"containerd does not answer\n{log.read_text()}") from error
            time.sleep(0.1)
        else:
            return
