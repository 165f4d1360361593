"""Run a command beside real Kubernetes clusters of several nodes, on one machine, without Docker.

    cluster install              Debian packages, then Kubernetes, containerd, CoreDNS from Go modules (idempotent)
    cluster run [--nodes 2] -- COMMAND...    boot, run COMMAND, tear everything down, return its exit status
    cluster run --nodes 2,1 -- COMMAND...    two clusters (contexts a and b): n1 and n2 in a, n3 in b
        --disk n2=300    /var/lib/containerd and /var/lib/modelctl of n2 lie on one ext4 of 300 MiB
        --keep DIR       state and logs in DIR, new or empty, and leave them

All of it as root. crane is that of `make build/go.stamp`.

Every node has network, mount, PID and UTS namespaces, an address (10.90.0.1N), /run, /var/lib/containerd,
/var/lib/kubelet, /var/lib/modelctl, /var/log and /etc/cni of its own, and a real containerd + kubelet + kube-proxy at
their usual paths, so a hostPath or a hostNetwork port of one node is not another's. Services, headless names (CoreDNS)
and traffic between pods of different nodes work. COMMAND runs in the hub, the namespace of the control plane and of two
registries, where pods and Services answer (those of a by name too) and the world outside does not, with kubectl, crane,
ctr and cluster on PATH, and with

    KUBECONFIG                  for the administrator
    CLUSTER_REGISTRY            10.90.0.1:5000, plain HTTP, known to every containerd; holds test/busybox:1
    CLUSTER_PRIVATE_REGISTRY    10.90.0.1:5001, the same, but empty, and only for user test with password test
    CLUSTER_NODES               n1,n2,...    all nodes of all clusters
    CLUSTER_DIR                 logs (*.log) and state; removed afterwards unless it is --keep's

Only in the hub:

    cluster exec n1 -- COMMAND...             as on that node, in the present directory
    cluster exec n1 -- sh -c 'kill -9 $(pidof kubelet)'    a daemon of a node is back after a second
                                                           (-STOP: it hangs until -CONT)
    cluster kill n2; cluster start n2         the power fails (NotReady after 20 s); the node comes back with its disk
    ip link set veth2 down                    the network of n2 fails; up: it is back
    tc qdisc add dev veth2 root tbf rate 80mbit burst 256kb latency 100ms
                                              what n2 receives (on its own eth0: what it sends)

The terminal gives ^C to COMMAND, SIGTERM is passed on to it, and when COMMAND ends, or `run` however it ends, every
process, mount and network of it is gone. What a killed `run` leaves on disk the next removes. Runs work beside and
inside each other.
"""

from __future__ import annotations

import argparse
import os
import signal
import subprocess
import sys

from e2e.cluster.hub import run_hub
from e2e.cluster.init import run_node
from e2e.cluster.node import kill, restart, run_on
from e2e.cluster.outside import run
from e2e.cluster.plan import pid_file
from e2e.cluster.programs import install


def main() -> int:
    """Do what the command line says; return the exit status."""
    at = sys.argv.index("--") if "--" in sys.argv else len(sys.argv)
    command = sys.argv[at + 1 :]
    parser = _parser()
    flags = parser.parse_args(sys.argv[1:at])
    if flags.verb in ("run", "exec") and not command:
        parser.error("which command? it comes after --")
    if os.geteuid():
        sys.exit("cluster: only as root")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(128 + signal.SIGTERM))
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    try:
        return _do(flags, command)
    except KeyboardInterrupt:
        return 128 + signal.SIGINT
    except subprocess.CalledProcessError as error:
        output = (error.stderr or error.stdout or b"").decode()
        sys.exit(f"cluster: {' '.join(error.cmd)}: exit status {error.returncode}\n{output}".rstrip())
    except OSError as error:
        sys.exit(f"cluster: {error}")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="cluster", description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    verbs = parser.add_subparsers(dest="verb", required=True, metavar="install|run|exec|kill|start")
    options = verbs.add_parser("run")
    options.add_argument("--nodes", default="2", help="how many, for each cluster: 3, or 2,1")
    options.add_argument("--disk", default=[], action="append", metavar="NODE=MIB")
    options.add_argument("--keep", default="", metavar="DIR")
    for verb in ("exec", "kill", "start", "_node"):
        verbs.add_parser(verb).add_argument("node")
    for verb in ("install", "_hub"):
        verbs.add_parser(verb)
    return parser


def _do(flags: argparse.Namespace, command: list[str]) -> int:
    match flags.verb:
        case "install":
            install()
        case "run":
            return run(flags.nodes, flags.disk, flags.keep, command)
        case "exec":
            return run_on(_node_that_is("up", flags.node), command)
        case "kill":
            kill(_node_that_is("up", flags.node))
        case "start":
            restart(_node_that_is("down", flags.node))
        case "_hub":
            return run_hub(command)
        case "_node":
            run_node(int(flags.node.removeprefix("n")))
    return 0


def _node_that_is(wanted: str, name: str) -> int:
    """Return the number of a node; exit when there is none of that name, or it is not as wanted, up or down."""
    if name not in os.environ.get("CLUSTER_NODES", "").split(","):
        sys.exit(f"cluster: there is no {name} here")
    number = int(name.removeprefix("n"))
    state = "up" if pid_file(number).exists() else "down"
    if state != wanted:
        sys.exit(f"cluster: {name} is {state}")
    return number
