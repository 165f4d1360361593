"""Every command in the docs runs, ends with the status the page says, and prints what the page shows.

In a ```console block a line that starts with "$ " is a command, `# exit N` behind it its status, the lines up to the
next command its output on stdout; `…` stands for anything, on a line or as lines. All blocks of a page share a folder.
"""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

import pytest

from tests.models import write_model

ROOT = Path(__file__).parents[2]
PAGES = sorted([ROOT / "README.md", *(ROOT / "docs").glob("*.md")])
GENERATED = "commands.md"


class Step(NamedTuple):
    command: str
    status: int
    output: str


def steps(page: Path) -> list[Step]:
    blocks = re.findall(r"^```console\n(.*?)^```", page.read_text(), re.DOTALL | re.MULTILINE)
    found = []
    for part in re.split(r"^\$ ", "".join(blocks), flags=re.MULTILINE)[1:]:
        command, _, output = part.partition("\n")
        exit_note = re.search(r"\s+# exit (\d+)$", command)
        found.append(Step(command, int(exit_note[1]) if exit_note else 0, output))
    return found


def pattern(output: str) -> str:
    lines = [r"(?:.*\n)*" if line == "…\n" else re.escape(line).replace("…", ".*") for line in output.splitlines(True)]
    return "".join(lines)


@pytest.mark.parametrize(
    "page", [page for page in PAGES if steps(page) and page.name != GENERATED], ids=lambda page: page.stem
)
def test_the_commands_of_a_page_do_what_it_shows(page: Path, tmp_path: Path) -> None:
    write_model(tmp_path / "Qwen3-8B")
    path = f"{Path(sys.executable).parent}:{os.environ['PATH']}"
    for step in steps(page):
        run = subprocess.run(
            ["bash", "-c", step.command],
            cwd=tmp_path,
            env={**os.environ, "PATH": path},
            capture_output=True,
            text=True,
            check=False,
        )
        assert run.returncode == step.status, f"{step.command}\n{run.stdout}{run.stderr}"
        assert re.fullmatch(pattern(step.output), run.stdout), f"{step.command}\n{run.stdout}"


def test_every_page_is_reached_from_the_readme() -> None:
    linked = set(re.findall(r"\(docs/(\w+\.md)\)", (ROOT / "README.md").read_text()))
    assert linked == {page.name for page in (ROOT / "docs").glob("*.md")}
