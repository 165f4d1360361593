"""diff, and ls of a source, as a user types them."""

from __future__ import annotations

import json
import re
import shutil
from pathlib import Path

import pytest

from tests.cli.program import run
from tests.models import shard
from tests.stores import flip

SHARD = "model-00001-of-00002.safetensors"


@pytest.fixture(scope="module")
def two(model: Path, tmp_path_factory: pytest.TempPathFactory) -> str:
    """A store with the model as `v1` and a changed one as `v2`; no test changes it."""
    folder = tmp_path_factory.mktemp("diff")
    store = f"oci:{folder}/store"
    other = Path(shutil.copytree(model, folder / "other"))
    flip(other / SHARD, -1)
    (other / "README.md").rename(other / "LIESMICH.md")
    (other / "config.json").write_text("{}")
    (other / "new.py").write_text("pass")
    (other / "tokenizer.json").unlink()
    run("pack", model, f"{store}:v1").check_returncode()
    run("pack", other, f"{store}:v2").check_returncode()
    return store


def test_what_differs_is_a_line_each(two: str) -> None:
    lines = run("diff", f"{two}:v1", f"{two}:v2").stdout.splitlines()
    assert lines[:-1] == [
        " README.md => LIESMICH.md         | moved, 22 B",
        " config.json                      | 85 B -> 2 B, 2 B in chunks that differ",
        f" {SHARD} | 1.2 kB, 1.2 kB in chunks that differ, 2 tensors touched",
        " new.py                           | added, 4 B",
        " tokenizer.json                   | removed, 108 B",
    ]
    assert re.fullmatch(
        r" 2 changed, 1 added, 1 removed, 1 moved, 2 same; a push sends [0-9.]+ kB, 5 layers", lines[-1]
    )


def test_tensors_are_listed_when_they_are_asked_for(two: str) -> None:
    lines = run("diff", f"{two}:v1", f"{two}:v2", "--tensors").stdout.splitlines()
    place = next(number for number, line in enumerate(lines) if SHARD in line)
    assert lines[place + 1 : place + 3] == [
        "     touched   U8 [500]  layers.1.up",
        "     touched   U8 [500]  layers.1.down",
    ]


def test_a_tensor_of_another_shape_is_shown_with_both(model: Path, store: str, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    (other / SHARD).write_bytes(shard({"layers.1.up": bytes(7), "layers.1.down": bytes(500)}))
    assert "     reshaped  U8 [500] -> U8 [7]  layers.1.up\n" in run("diff", f"{store}:v1", other, "--tensors").stdout


def test_what_does_not_differ_is_a_line_in_all(store: str) -> None:
    ended = run("diff", f"{store}:v1", f"{store}:v1")
    assert (ended.stdout, ended.stderr) == (" 6 same; a push sends 0 B, 0 layers\n", "")


@pytest.mark.parametrize(
    ("tags", "flags", "status"), [("v1 v2", "", 0), ("v1 v2", "--exit-code", 14), ("v1 v1", "--exit-code", 0)]
)
def test_the_status_tells_a_difference_when_it_is_asked(two: str, tags: str, flags: str, status: int) -> None:
    ended = run("diff", *(f"{two}:{tag}" for tag in tags.split()), *flags.split())
    assert (ended.returncode, ended.stdout != "", ended.stderr) == (status, True, "")


def test_a_source_is_compared_and_what_was_not_is_counted(model: Path, store: str) -> None:
    ended = run("diff", f"{store}:v1", model, "--exit-code")
    assert (ended.returncode, ended.stdout) == (0, " 4 same, 2 unknown\n")
    assert ended.stderr == "2 files: nothing states their content, and it was not read\n"


def test_json_has_every_file(two: str) -> None:
    document = json.loads(run("diff", f"{two}:v1", f"{two}:v2", "-o", "json").stdout)
    assert document["differs"] is True
    assert {file["path"]: file["change"] for file in document["files"]} == {
        "LIESMICH.md": "moved",
        "config.json": "changed",
        SHARD: "changed",
        "model-00002-of-00002.safetensors": "same",
        "model.safetensors.index.json": "same",
        "new.py": "added",
        "tokenizer.json": "removed",
    }


def test_a_source_cannot_be_the_old_side(model: Path, store: str) -> None:
    ended = run("diff", model, f"{store}:v1")
    assert (ended.returncode, ended.stderr.startswith("usage: not a reference")) == (2, True)


def test_a_name_that_a_terminal_would_obey_is_spelled_out(store: str, model: Path, tmp_path: Path) -> None:
    other = Path(shutil.copytree(model, tmp_path / "other"))
    (other / "\x1b[2J.md").write_text("x")
    assert r"\x1b[2J.md" in run("diff", f"{store}:v1", other).stdout


def test_the_files_of_a_source_are_listed(model: Path) -> None:
    ended = run("ls", f"file://{model}")
    assert ended.stdout == "".join(f"{path.stat().st_size}  -  {path.name}\n" for path in sorted(model.iterdir()))


def test_the_files_of_a_source_are_json_too(model: Path) -> None:
    document = json.loads(run("ls", f"file://{model}", "-o", "json").stdout)
    assert {file["path"]: file["size"] for file in document} == {
        path.name: path.stat().st_size for path in model.iterdir()
    }


def test_a_scheme_that_is_unknown_is_a_usage_problem() -> None:
    ended = run("ls", "s4://bucket")
    assert (ended.returncode, "no source is named 's4'" in ended.stderr) == (2, True)
