"""A node as the hub has it: it gets power and loses it, and commands run on it."""

from __future__ import annotations

import os
import signal
import subprocess
from pathlib import Path

from e2e.cluster.groups import remove_groups
from e2e.cluster.plan import BASE, group_of_run, node_address, pid_file, pod_addresses
from e2e.cluster.processes import SELF, enter_pid_namespace, follow, ip, ok, start, until


def boot(number: int) -> None:
    """Start node `number`: its process 1, in namespaces of its own, and its cable."""
    name, veth = f"n{number}", f"veth{number}"
    namespaces = ("--mount", "--net", "--uts", "--pid", "--fork", "--mount-proc")
    parent = start(name, "unshare", *namespaces, *SELF, "_node", name)
    children = Path(f"/proc/{parent.pid}/task/{parent.pid}/children")
    until(f"process 1 of {name}", children.read_text)
    pid = children.read_text().strip()
    address = f"02:00:00:00:00:{number:02}"  # the same after a reboot: neighbours remember it
    ip(
        f"link add {veth} type veth peer name eth0 address {address} netns {pid}",
        f"link set {veth} master br0 up",
        f"route replace {pod_addresses(number)} via {node_address(number)}",
    )
    pid_file(number).write_text(pid)


def kill(number: int) -> None:
    """Take the power from node `number`; return when nothing of it is left but its disk."""
    pid, disk = int(pid_file(number).read_text()), BASE / f"n{number}" / "disk.ext4"
    os.kill(pid, signal.SIGKILL)
    until(f"end of n{number}", lambda: not Path(f"/proc/{pid}").exists())
    until(f"end of {disk}", lambda: not disk.exists() or not subprocess.check_output(["losetup", "-j", disk]))
    ok("ip", "link", "delete", f"veth{number}")
    remove_groups(f"{group_of_run()}/n{number}")
    pid_file(number).unlink()


def restart(number: int) -> None:
    """Give node `number` power again; return when its kubelet answers."""
    boot(number)
    healthz = ("busybox", "wget", "-qO-", "http://127.0.0.1:10248/healthz")
    until(f"kubelet of n{number}", lambda: ok(*SELF, "exec", f"n{number}", "--", *healthz))


def run_on(number: int, command: list[str]) -> int:
    """Run a command on node `number`, in the present folder; return its status."""
    pid = int(pid_file(number).read_text())
    enter_pid_namespace(pid)
    enter = ("nsenter", "-t", str(pid), "--mount", "--net", "--uts", f"--wdns={Path.cwd()}")
    return follow(subprocess.Popen(["setpriv", "--pdeathsig", "KILL", *enter, *command]))
