"""A container's last words, in the file that the kubelet would read."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.cli.pod import LONGEST_TEXT, cut
from tests.cli.program import MODELCTL, environment, run


@pytest.fixture
def log(tmp_path: Path) -> Path:
    """An empty file, as the kubelet makes it."""
    path = tmp_path / "termination-log"
    path.touch()
    return path


def said(log: Path, *args: str | Path) -> dict[str, Any]:
    run(*args, MODELCTL_TERMINATION_LOG=str(log))
    document: dict[str, Any] = json.loads(log.read_bytes())
    return document


def test_a_pull_leaves_its_totals(model: Path, store: str, log: Path, tmp_path: Path) -> None:
    digest = run("digest", f"{store}:v1").stdout.strip()
    sizes = [path.stat().st_size for path in model.iterdir()]
    totals = {"digest": digest, "files": len(sizes), "size": sum(sizes), "shared": 0}
    assert said(log, "node", "pull", f"{store}:v1", "--root", tmp_path / "root") == totals


def test_a_warm_leaves_its_totals(model: Path, log: Path) -> None:
    sizes = [path.stat().st_size for path in model.iterdir()]
    totals = {"table": "", "files": len(sizes), "size": sum(sizes), "resident": sum(sizes)}
    assert said(log, "node", "warm", model) == totals


def test_a_removal_leaves_what_it_freed(model: Path, store: str, log: Path, tmp_path: Path) -> None:
    run("node", "pull", f"{store}:v1", "--root", tmp_path / "root").check_returncode()
    digest = run("digest", f"{store}:v1").stdout.strip()
    freed = sum(path.stat().st_size for path in model.iterdir())
    assert said(log, "node", "rm", digest, "--root", tmp_path / "root") == {"digest": digest, "freed": freed}


@pytest.mark.parametrize(
    ("command", "code"),
    [
        (("pull", "oci:nope:v1"), "not-found"),
        (("pull", "not a reference"), "usage"),
        (("warm", "nope"), "not-found"),
        (("warm", "nope", "-o", "jsonl"), "not-found"),
        (("warm", "nope", "--listen", ":1"), "usage"),
        (("rm", "sha256:" + "0" * 64), "not-found"),
    ],
)
def test_an_error_is_left(log: Path, command: tuple[str, ...], code: str) -> None:
    left = said(log, "node", *command)
    assert list(left) == ["error"]
    assert list(left["error"]) == ["code", "what", "why", "hint"]
    assert left["error"]["code"] == code


@pytest.mark.parametrize("letter", ["a", "\x01", "\N{SNOWMAN}", '"'])
def test_a_long_error_is_cut_to_what_the_kubelet_takes(log: Path, letter: str) -> None:
    long = "/".join([letter * 80] * 16)
    assert said(log, "node", "warm", f"/nope/{long}")["error"]["code"] == "not-found"
    assert LONGEST_TEXT < len(log.read_bytes()) <= 4096


@given(st.text() | st.text("\x00\udc80\N{SNOWMAN}\N{PILE OF POO}a", min_size=150))
def test_what_is_cut_is_a_beginning_of_a_bounded_size(text: str) -> None:
    kept = cut(text)
    assert len(json.dumps(kept)) - 2 <= LONGEST_TEXT
    assert kept == text or text.startswith(kept.removesuffix("…"))


def test_without_a_log_none_is_made(model: Path, tmp_path: Path) -> None:
    run("node", "warm", model, MODELCTL_TERMINATION_LOG=str(tmp_path / "log")).check_returncode()
    assert not (tmp_path / "log").exists()


def test_a_log_that_cannot_be_written_does_not_hide_the_error(tmp_path: Path) -> None:
    ended = run("node", "warm", tmp_path / "nope", MODELCTL_TERMINATION_LOG=str(tmp_path))
    assert (ended.returncode, "nope" in ended.stderr) == (3, True)


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_a_signal_is_no_error(model: Path, log: Path, number: signal.Signals) -> None:
    with subprocess.Popen(
        [*MODELCTL, "node", "warm", str(model), "--hold", "-o", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(MODELCTL_TERMINATION_LOG=str(log)),
    ) as holder:
        assert holder.stdout
        next(line for line in holder.stdout if b"done" in line)
        holder.send_signal(number)
        holder.communicate(timeout=10)
    assert holder.returncode == 128 + number
    assert list(json.loads(log.read_bytes())) == ["table", "files", "size", "resident"]


def test_a_holder_whose_model_is_removed_leaves_totals_and_the_error(store: str, log: Path, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = run("node", "pull", f"{store}:v1", "--root", root).stdout.strip()
    with subprocess.Popen(
        [*MODELCTL, "node", "warm", folder, "--hold", "--interval", "0.1"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(MODELCTL_TERMINATION_LOG=str(log)),
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        run("node", "rm", run("digest", f"{store}:v1").stdout.strip(), "--root", root).check_returncode()
        _, stderr = holder.communicate(timeout=10)
    left = json.loads(log.read_bytes())
    assert (holder.returncode, left["error"]["code"]) == (3, "not-found")
    assert left["resident"] == left["size"]
    error = left["error"]
    assert stderr.decode().endswith(
        f"{error['code']}: {error['what']}\n  why: {error['why']}\n  try: {error['hint']}\n"
    )
