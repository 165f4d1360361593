"""The files that pack and push leave for pipelines: what is in them, and that nobody's text is markup there."""

from __future__ import annotations

import json
import re
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from modelctl.cli.summary import code, fence
from tests.cli.program import run
from tests.fakes.registries import Registry


@pytest.fixture
def summary(tmp_path: Path) -> Path:
    return tmp_path / "summary.md"


@pytest.fixture
def references(tmp_path: Path) -> Path:
    return tmp_path / "references.txt"


def test_a_pack_says_what_is_there_now(model: Path, summary: Path, references: Path, tmp_path: Path) -> None:
    printed = run("pack", model, f"oci:{tmp_path}/s:v1", "--summary", summary, "--refs-file", references).stdout
    assert references.read_text() == printed
    assert f"| image | `{printed.strip()}` | `v1` |" in summary.read_text()


def test_each_layout_has_its_reference(model: Path, references: Path, tmp_path: Path) -> None:
    printed = run(
        "pack", model, f"oci:{tmp_path}/s:v1", "--layout", "image,modelpack", "--refs-file", references
    ).stdout
    assert (references.read_text(), len(printed.splitlines())) == (printed, 2)


def test_each_layout_has_its_reference_in_each_region(
    model: Path, references: Path, plain: Registry, repository: str, tmp_path: Path
) -> None:
    config = tmp_path / "mine.toml"
    config.write_text("".join(f'[regions.{name}]\nregistry = "{plain.host}"\nnamespace = "{name}"\n' for name in "ab"))
    into = ("--regions", "all", "--to", f"{repository}:v1", "--layout", "image,modelpack")
    ended = run("pack", model, *into, "--refs-file", references, "-o", "json", MODELCTL_CONFIG=str(config))
    digests = [one["digest"] for one in json.loads(ended.stdout)["packed"]["artifacts"]]
    assert references.read_text().split() == [
        f"{plain.host}/{name}/{repository}@{digest}" for name in "ab" for digest in digests
    ]


def test_a_push_that_fails_later_says_what_is_there(
    store: str, summary: Path, references: Path, tmp_path: Path
) -> None:
    (tmp_path / "file").touch()
    places = (f"oci:{tmp_path}/s:v1", f"oci:{tmp_path}/file:v1")
    ended = run("push", f"{store}:v1", *places, "--summary", summary, "--refs-file", references)
    (reference,) = references.read_text().split()
    assert (ended.returncode != 0, reference.partition("@")[0]) == (True, f"oci:{tmp_path}/s")
    assert f"| `{reference}` | `v1` |" in summary.read_text()


def test_a_push_says_what_was_sent(store: str, summary: Path, tmp_path: Path) -> None:
    run("push", f"{store}:v1", f"oci:{tmp_path}/s:v1", "--summary", summary).check_returncode()
    run("push", f"{store}:v1", f"oci:{tmp_path}/s:v1", "--summary", summary).check_returncode()
    assert re.findall(r"\| (\d+) blobs \| (\d+) blobs \|", summary.read_text()) == [("8", "0"), ("0", "8")]


def test_a_dry_run_leaves_no_reference(model: Path, summary: Path, references: Path, tmp_path: Path) -> None:
    references.write_text("of an earlier run\n")
    run("pack", model, f"oci:{tmp_path}/s:v1", "--dry-run", "--summary", summary, "--refs-file", references)
    assert (references.read_text(), "pack: dry run\n" in summary.read_text()) == ("", True)


def test_a_failure_is_told_as_the_terminal_is(summary: Path, references: Path, tmp_path: Path) -> None:
    references.write_text("of an earlier run\n")
    ended = run("push", f"oci:{tmp_path}/nope:v1", "oci:b", "--summary", summary, "--refs-file", references)
    assert (references.read_text(), f"```text\n{ended.stderr}```\n" in summary.read_text()) == ("", True)


def test_a_summary_is_added_to_what_is_there(store: str, summary: Path, tmp_path: Path) -> None:
    summary.write_text("# Before\n")
    run("push", f"{store}:v1", f"oci:{tmp_path}/s:v1", "--summary", summary).check_returncode()
    assert summary.read_text().startswith("# Before\n### modelctl push: done\n")


@pytest.mark.parametrize("flag", ["--summary", "--refs-file"])
def test_a_file_that_cannot_be_written_ends_it_before_anything_is_done(model: Path, flag: str, tmp_path: Path) -> None:
    ended = run("pack", model, f"oci:{tmp_path}/s:v1", flag, tmp_path / "nope/file")
    assert (ended.returncode, (tmp_path / "s").exists()) == (3, False)


@given(st.text() | st.text("`|\\ \n"))
def test_a_code_span_ends_where_it_should(text: str) -> None:
    """CommonMark, "Code spans": the span ends at the first run of as many backticks as it began with."""
    span = code(text)
    ticks = re.match("`*", span)
    assert ticks
    assert [len(run) for run in re.findall("`+", span)].count(len(ticks[0])) in (0, 2)


@given(st.text() | st.text("`|\\ \n"))
def test_a_code_span_is_one_cell_of_one_line(text: str) -> None:
    assert re.search(r"(?<!\\)\||[\r\n]", code(text)) is None


@given(st.text() | st.text("` \n"))
def test_a_fence_ends_where_it_should(text: str) -> None:
    first, *lines, last = fence(text).split("\n")
    assert (first, max(map(len, re.findall("`+", "\n".join(lines))), default=0) < len(last)) == (f"{last}text", True)
