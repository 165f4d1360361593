"""The shim is compiled once; `sweep` runs one operation with one kind of fault."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import msgspec
import pytest

from tests.faults.sweep import Sweep


@pytest.fixture(scope="session")
def shim(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("shim") / "faults.so"
    source = Path(__file__).with_name("faults.c")
    subprocess.run(
        [
            "gcc",
            "-shared",
            "-fPIC",
            "-O1",
            "-Wall",
            "-Werror",
            "-o",
            path,
            source,
            "-ldl",
        ],
        check=True,
    )
    return path


@pytest.fixture
def sweep(shim: Path, tmp_path: Path) -> Callable[[str, str], Sweep]:
    def run(operation: str, mode: str) -> Sweep:
        done = subprocess.run(
            [sys.executable, "-m", "tests.faults.sweep", tmp_path, operation, mode],
            env={**os.environ, "LD_PRELOAD": str(shim)},
            stdout=subprocess.PIPE,
            check=True,
        )
        return msgspec.json.decode(done.stdout, type=Sweep)

    return run
