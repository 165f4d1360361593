import os
import signal
from pathlib import Path

import pytest

from tests.cli.program import run, run_and_signal, unfinished

SIGNALS = [(signal.SIGINT, 130, "interrupted: "), (signal.SIGTERM, 143, "terminated: ")]


@pytest.fixture
def large(tmp_path: Path) -> Path:
    """A model of one file of 4 GB, all zeros, that takes no space."""
    (tmp_path / "model").mkdir()
    with open(tmp_path / "model" / "a.gguf", "wb") as file:
        file.truncate(4 << 30)
    return tmp_path / "model"


@pytest.mark.parametrize(("number", "status", "note"), SIGNALS)
def test_a_signal_ends_it_with_its_own_status_and_one_line(
    large: Path, tmp_path: Path, number: signal.Signals, status: int, note: str
) -> None:
    ended, stderr = run_and_signal(number, tmp_path / "store", "pack", str(large), f"oci:{tmp_path}/store:v1")
    assert (ended, stderr.startswith(note), stderr.count("\n")) == (status, True, 1)


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_leaves_no_tag_and_nothing_unfinished(large: Path, tmp_path: Path, number: signal.Signals) -> None:
    run_and_signal(number, tmp_path / "store", "pack", str(large), f"oci:{tmp_path}/store:v1")
    assert (run("ls", f"oci:{tmp_path}/store").stdout, unfinished(tmp_path / "store")) == ("", [])


def test_after_a_kill_the_same_command_completes_and_sweeps_up(large: Path, tmp_path: Path) -> None:
    command = ("pack", str(large), f"oci:{tmp_path}/store:v1")
    run_and_signal(signal.SIGKILL, tmp_path / "store", *command)
    os.truncate(large / "a.gguf", 1 << 20)
    assert (run(*command).returncode, unfinished(tmp_path / "store")) == (0, [])


def test_after_an_interruption_the_same_command_completes(large: Path, tmp_path: Path) -> None:
    command = ("pack", str(large), f"oci:{tmp_path}/store:v1")
    run_and_signal(signal.SIGINT, tmp_path / "store", *command)
    os.truncate(large / "a.gguf", 1 << 20)
    assert run(*command).returncode == 0
