"""The programs of a cluster: Debian's, and Kubernetes, containerd and CoreDNS from their Go modules.

They are built once for a machine, into a folder that all checkouts share.
"""

from __future__ import annotations

import fcntl
import json
import os
import re
import sys
import tempfile
from pathlib import Path

from e2e.cluster.processes import sh

KUBERNETES = "1.36.3"
CONTAINERD = "2.3.7"
COREDNS = "1.14.1"
CACHE = Path(os.environ.get("CLUSTER_CACHE", "/var/cache/modelctl-cluster"))
BIN = CACHE / f"kubernetes-v{KUBERNETES}-containerd-v{CONTAINERD}" / "bin"
E2E = Path(__file__).resolve().parents[1]
TOOLS = E2E.parent / "build" / "go" / "bin"
"""Where `make build/go.stamp` puts crane."""

_COMMANDS = ("kube-apiserver", "kube-controller-manager", "kube-scheduler", "kubelet", "kube-proxy", "kubectl")
_OTHERS = (
    f"github.com/containerd/containerd/v2/cmd/containerd@v{CONTAINERD}",
    f"github.com/containerd/containerd/v2/cmd/containerd-shim-runc-v2@v{CONTAINERD}",
    f"github.com/containerd/containerd/v2/cmd/ctr@v{CONTAINERD}",
    f"github.com/coredns/coredns@v{COREDNS}",
)


def install() -> None:
    """Install and build what is missing; another that does is waited for."""
    BIN.mkdir(parents=True, exist_ok=True)
    with (BIN / ".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        sh(E2E / "install-apt", E2E / "cluster" / "apt.txt", stdout=sys.stderr)
        if not (BIN / ".done").exists():
            _build()
            (BIN / ".done").touch()


def _build() -> None:
    with tempfile.TemporaryDirectory() as folder:
        _build_kubernetes(Path(folder))
    for program in _OTHERS:
        _say(f"building {program}")
        sh(E2E / "go", "install", program, env={**os.environ, "GOBIN": str(BIN)}, capture_output=True)


def _build_kubernetes(module: Path) -> None:
    """Build in a module of our own that replaces what Kubernetes' own go.mod replaces: its staging modules."""

    def go(*arguments: object) -> bytes:
        output: bytes = sh(E2E / "go", *arguments, cwd=module, capture_output=True).stdout
        return output

    major, minor, patch = KUBERNETES.split(".")
    downloaded = json.loads(go("mod", "download", "-json", f"k8s.io/kubernetes@v{KUBERNETES}"))
    staging = re.findall(r"(\S+) => \./staging/", Path(downloaded["GoMod"]).read_text())
    lines = ["module cluster", "go 1.26.0", f"require k8s.io/kubernetes v{KUBERNETES}"]
    lines += [f"replace {name} => {name} v0.{minor}.{patch}" for name in staging]
    (module / "go.mod").write_text("\n".join(lines) + "\n")
    imports = "\n".join(f'import _ "k8s.io/kubernetes/cmd/{command}"' for command in _COMMANDS)
    (module / "tools.go").write_text(f"//go:build tools\n\npackage tools\n\n{imports}\n")
    go("mod", "tidy", "-e")
    version = {"gitVersion": f"v{KUBERNETES}", "gitMajor": major, "gitMinor": minor}
    flags = " ".join(["-s", "-w", *(f"-X k8s.io/component-base/version.{key}={version[key]}" for key in version)])
    for command in _COMMANDS:
        _say(f"building {command} {KUBERNETES}")
        go("build", "-ldflags", flags, "-o", BIN / command, f"k8s.io/kubernetes/cmd/{command}")


def _say(line: str) -> None:
    print(f"cluster: {line}", file=sys.stderr, flush=True)


def path_with_programs() -> str:
    """Return a PATH on which the programs are found, and this one."""
    return f"{TOOLS}:{BIN}:{E2E / 'cluster'}:{os.environ['PATH']}:/usr/sbin:/sbin"
