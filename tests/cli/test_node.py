"""node as a user, or a pod, types it."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

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


def events(*args: str | Path) -> tuple[int, list[dict[str, Any]], str]:
    """Run `modelctl node` with -o jsonl; return its status, its events, and its stderr."""
    ended = run("node", *args, "-o", "jsonl")
    return ended.returncode, [json.loads(line) for line in ended.stdout.splitlines()], ended.stderr


def test_a_warm_tells_each_file_and_its_totals(model: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in model.iterdir()}
    status, told, stderr = events("warm", model)
    assert told[:-1] == [
        {"event": "file", "path": path, "size": size, "resident": size} for path, size in sorted(sizes.items())
    ]
    total = sum(sizes.values())
    done = {"event": "done", "folder": str(model), "table": "", "files": len(sizes), "size": total, "resident": total}
    assert (status, told[-1], stderr) == (0, done, "")


def test_a_pull_tells_each_file_and_its_totals(model: Path, store: str, tmp_path: Path) -> None:
    sizes = {path.name: path.stat().st_size for path in model.iterdir()}
    status, told, stderr = events("pull", f"{store}:v1", "--root", tmp_path / "root")
    files = [{"event": "file", "path": path, "size": size} for path, size in sizes.items()]
    assert sorted(told[:-1], key=str) == sorted(files, key=str)
    totals = {"event": "done", "files": len(sizes), "size": sum(sizes.values()), "shared": 0}
    assert (status, totals.items() <= told[-1].items(), stderr) == (0, True, "")


def test_an_error_is_an_event_too(tmp_path: Path) -> None:
    status, told, stderr = events("warm", tmp_path / "nope")
    assert [set(event) for event in told] == [{"event", "code", "what", "why", "hint"}]
    assert (status, told[0]["code"], stderr) == (3, "not-found", "")


def test_with_debug_the_traceback_of_an_error_is_shown(tmp_path: Path) -> None:
    status, told, stderr = events("warm", tmp_path / "nope", "--debug")
    assert (status, told[0]["event"], "Traceback" in stderr) == (3, "error", True)


def test_a_name_that_a_terminal_would_obey_is_spelled_out(tmp_path: Path) -> None:
    (tmp_path / "\x1b[2J\n\N{SNOWMAN}").write_text("x")
    ended = run("node", "warm", tmp_path, "-o", "jsonl")
    assert json.loads(ended.stdout.splitlines()[0])["path"] == "\x1b[2J\n\N{SNOWMAN}"
    assert (len(ended.stdout.splitlines()), ended.stdout.isascii(), "\x1b" in ended.stdout) == (2, True, False)


def test_a_holder_tells_that_its_model_was_removed(store: str, tmp_path: Path) -> None:
    root = tmp_path / "root"
    folder = run("node", "pull", f"{store}:v1", "--root", root).stdout.strip()
    with subprocess.Popen(
        [*MODELCTL, "node", "warm", folder, "--hold", "--interval", "0.1", "-o", "jsonl"],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        env=environment(),
    ) as holder:
        assert holder.stdout
        next(line for line in holder.stdout if b'"done"' in line)
        run("node", "rm", run("digest", f"{store}:v1").stdout.strip(), "--root", root).check_returncode()
        stdout, stderr = holder.communicate(timeout=10)
    assert (holder.returncode, json.loads(stdout)["code"], stderr) == (3, "not-found", b"")


def test_listen_without_hold_is_refused(model: Path) -> None:
    assert run("node", "warm", model, "--listen", ":9464").returncode == 2


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    assert run("node", "warm", tmp_path / "nope").returncode == 3
