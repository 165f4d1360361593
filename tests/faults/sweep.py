"""Run one flow again and again, each time with a fault at another of its file operations, and judge what is left.

`python -m tests.faults.sweep SCRATCH OPERATION MODE`, with faults.c preloaded, prints a `Sweep` as JSON. Each run is a
forked child with the fault armed; the parent, which has none, then looks at the folders and runs the flow to its end.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import signal
import sys
import tempfile
import traceback
from collections.abc import Callable
from pathlib import Path
from typing import NoReturn

import msgspec

from modelctl.core.errors import DiskProblem, ModelctlError
from tests.faults.operations import OPERATIONS, Operation

CHANGES, GROWS, WRITES, READS = 7, 6, 4, 8
COUNT = 1

MODES = {
    "kill": (2, CHANGES),
    "torn-write": (3, WRITES),
    "no-space": (4, CHANGES),
    "short-write": (5, WRITES),
    "full": (6, GROWS),
    "broken": (7, CHANGES),
    "dead": (8, CHANGES),
    "broken-read": (7, READS),
}
"""The modes of faults.c, and the kinds of operations that count:

killed before the operation; killed half-way through a write; ENOSPC once; half a write, then ENOSPC; ENOSPC from then
on; EIO once; EIO from then on; EIO once when reading.
"""


Step = Callable[[], None]


class Sweep(msgspec.Struct):
    """What came of it: how many faults were made, how many runs they ended, and what was wrong after which."""

    cases: int
    ended: int
    failures: list[str]


def main(scratch: str, name: str, mode: str) -> None:
    operation = OPERATIONS[name](Path(scratch).resolve())
    (operation.scratch / "start").mkdir(parents=True)
    operation.prepare(operation.scratch / "start", _until_killed)
    sys.stdout.buffer.write(msgspec.json.encode(sweep(operation, mode)))


def sweep(operation: Operation, mode: str) -> Sweep:
    how, kinds = MODES[mode]
    result = Sweep(_count(operation, kinds), 0, [])
    for number in range(1, result.cases + 1):
        folder = _fresh(operation)
        run, arm = _run_of(operation, folder, number, how, kinds)
        status, error = _fork(run, arm)
        result.ended += status != 0
        result.failures += [f"{mode} at {number}: {fault}" for fault in _judge(operation, folder, status, error)]
    return result


def _run_of(operation: Operation, folder: Path, number: int, how: int, kinds: int) -> tuple[Step, Step]:
    """Return what runs the flow, and what arms the fault before it."""
    watched = operation.watched(folder, reads=kinds == READS)
    return lambda: operation.run(folder), lambda: _arm(watched, number, how, kinds)


def _count(operation: Operation, kinds: int) -> int:
    folder = _fresh(operation)
    run, arm = _run_of(operation, folder, 0, COUNT, kinds)
    with tempfile.TemporaryFile() as file:

        def run_and_tell() -> None:
            run()
            os.write(file.fileno(), str(_shim().faults_count()).encode())

        status, error = _fork(run_and_tell, arm)
        if status:
            raise RuntimeError(f"without a fault it ended with {status}: {error}")
        file.seek(0)
        return int(file.read())


def _judge(operation: Operation, folder: Path, status: int, error: str) -> list[str]:
    wrong = [] if status in (0, -signal.SIGKILL, DiskProblem.exit_status) else [f"it ended with {status}: {error}"]
    wrong += operation.wrong(folder)
    if status == 0:
        wrong += [f"it ended well, but {fault}" for fault in operation.undone(folder)]
    try:
        operation.run(folder)
        wrong += [f"after the next run {fault}" for fault in operation.undone(folder)]
    except ModelctlError as problem:
        wrong.append(f"the next run failed: {problem}")
    return wrong


def _fresh(operation: Operation) -> Path:
    folder = operation.scratch / "case"
    shutil.rmtree(folder, ignore_errors=True)
    shutil.copytree(operation.scratch / "start", folder)
    return folder


def _until_killed(run: Step, folder: Path, number: int) -> bool:
    """Run with a kill at the operation `number`; say whether it came to that."""
    how, kinds = MODES["kill"]
    status, _ = _fork(run, lambda: _arm(folder, number, how, kinds))
    return status == -signal.SIGKILL


def _fork(run: Step, arm: Step) -> tuple[int, str]:
    """Return the exit status of `run` in a child, minus the signal's number when one ended it, and its error."""
    with tempfile.TemporaryFile() as file:
        pid = os.fork()
        if pid == 0:
            _end_child(run, arm, file.fileno())
        status = os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])
        file.seek(0)
        return status, file.read().decode()


def _end_child(run: Step, arm: Step, errors: int) -> NoReturn:
    status = 1
    try:
        arm()
        run()
        status = 0
    except ModelctlError as error:
        status = error.exit_status
    except BaseException:
        os.write(errors, traceback.format_exc().encode())
    finally:
        os._exit(status)


def _arm(folder: Path, number: int, how: int, kinds: int) -> None:
    _shim().faults_arm(os.fsencode(folder), ctypes.c_long(number), how, kinds)


def _shim() -> ctypes.CDLL:
    shim = ctypes.CDLL(None)
    shim.faults_count.restype = ctypes.c_long
    return shim


if __name__ == "__main__":
    main(*sys.argv[1:])
