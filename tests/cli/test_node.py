"""node as a user, or a pod, types it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path

from tests.cli.program import MODELCTL, environment, run


def test_a_model_is_kept_listed_and_removed(store: str, tmp_path: Path) -> None:
    root = tmp_path / "library"
    folder = run("node", "pull", f"{store}:v1", "--root", root).stdout.strip()
    digest = run("digest", f"{store}:v1").stdout.strip()
    assert folder == str(root / "models" / digest.removeprefix("sha256:"))
    assert run("node", "ls", "--root", root).stdout.startswith(f"{digest}  ")
    assert run("node", "rm", digest, "--root", root).stdout == f"{digest}\n"
    assert run("node", "ls", "--root", root).stdout == ""


def test_warm_prints_a_line_for_each_file(model: Path) -> None:
    lines = [line.split("  ") for line in run("node", "warm", model).stdout.splitlines()]
    assert [(int(resident), int(size)) for resident, size, _ in lines] == [
        (Path(model, path).stat().st_size,) * 2 for _, _, path in lines
    ]


def test_warm_prints_json(model: Path) -> None:
    document = json.loads(run("node", "warm", model, "-o", "json").stdout)
    assert document["resident"] == document["size"]


def test_a_holder_stays_until_it_is_told_to_go(model: Path) -> None:
    with subprocess.Popen(
        [*MODELCTL, "node", "warm", str(model), "--hold"], stdout=subprocess.PIPE, env=environment()
    ) as holder:
        assert holder.stdout
        holder.stdout.readline()
        assert holder.poll() is None
        holder.send_signal(signal.SIGTERM)
        assert holder.wait(10) == 143


def test_listen_without_hold_is_refused(model: Path) -> None:
    assert run("node", "warm", model, "--listen", ":9464").returncode == 2


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert run("node", "warm", tmp_path / "nope").returncode == 3
