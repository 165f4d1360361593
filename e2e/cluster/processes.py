"""Processes: commands, daemons and their logs, and what waits for them."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any, cast

from e2e.cluster.plan import BASE

SELF = (sys.executable, str(Path(__file__).with_name("cluster")))
"""This program, as it runs itself in other namespaces."""

started: dict[str, subprocess.Popen[bytes]] = {}
"""The daemons of this process."""

_libc = ctypes.CDLL(None, use_errno=True)  # os has unshare and setns from Python 3.12 on
_CLONE_NEWPID = 0x20000000


def sh(*command: object, **options: Any) -> subprocess.CompletedProcess[Any]:
    """Run a command; a status other than 0 is raised."""
    return subprocess.run([str(word) for word in command], check=True, **options)


def ok(*command: object) -> bool:
    """Say whether a command ends with status 0."""
    return subprocess.run([str(word) for word in command], capture_output=True, check=False).returncode == 0


def ip(*lines: str) -> None:
    """Run ip(8) with each line."""
    for line in lines:
        sh("ip", *line.split())


def start(name: str, *command: object) -> subprocess.Popen[bytes]:
    """Start a daemon that logs to NAME.log, in a session of its own: ^C is not for it."""
    with (BASE / f"{name}.log").open("ab") as log:
        started[name] = subprocess.Popen(
            [str(word) for word in command],
            stdout=log,
            stderr=log,
            stdin=subprocess.DEVNULL,
            cwd="/",
            start_new_session=True,
        )
    return started[name]


def until(what: str, ready: Callable[[], object], timeout_s: float = 90) -> None:
    """Wait for `ready`; when a daemon dies first, or time is up, show the ends of the logs and exit."""
    deadline = time.monotonic() + timeout_s
    while not ready():
        dead = next((name for name, process in started.items() if process.poll() is not None), "")
        if dead or time.monotonic() > deadline:
            for log in sorted(BASE.glob(f"{dead or '*'}.log")):
                last = log.read_text(errors="replace").splitlines()[-3:]
                print(f"--- {log.name}", *(line[:200] for line in last), sep="\n", file=sys.stderr)
            sys.exit(f"cluster: {what}: " + (f"{dead} died" if dead else f"not ready after {timeout_s:.0f} s"))
        time.sleep(0.2)


def follow(child: subprocess.Popen[bytes]) -> int:
    """Wait for `child`, leave ^C to it, pass SIGTERM on to it, and return its status as a shell does.

    Orphans that come to this process are reaped: a node's PID namespace ends only then.
    """

    def pass_on(number: int, _: FrameType | None) -> None:
        with contextlib.suppress(ProcessLookupError):
            os.kill(child.pid, number)

    signal.signal(signal.SIGINT, lambda *_: None)
    signal.signal(signal.SIGTERM, pass_on)
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
    while (ended := os.wait())[0] != child.pid:
        pass
    status = os.waitstatus_to_exitcode(ended[1])
    return status if status >= 0 else 128 - status


def keep_alive() -> None:
    """Start again, after a second, every daemon that dies, as systemd would; for ever."""
    while True:
        pid, _ = os.wait()
        for name, process in list(started.items()):
            if process.pid == pid:
                time.sleep(1)
                start(name, *cast("list[str]", process.args))


def new_pid_namespace() -> None:
    """Make the next child process 1 of a PID namespace: all that it starts ends with it."""
    _check(_libc.unshare(_CLONE_NEWPID))


def enter_pid_namespace(pid: int) -> None:
    """Put the next child into the PID namespace of `pid`."""
    namespace = os.open(f"/proc/{pid}/ns/pid", os.O_RDONLY | os.O_CLOEXEC)
    try:
        _check(_libc.setns(namespace, _CLONE_NEWPID))
    finally:
        os.close(namespace)


def _check(result: int) -> None:
    if result:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))


def resolve_with(file: Path, nameserver: str) -> None:
    """Let this mount namespace ask `nameserver` for names."""
    file.write_text(f"nameserver {nameserver}\n")
    sh("mount", "--bind", file, "/etc/resolv.conf")
