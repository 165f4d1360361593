"""The files of a source, listed."""

from __future__ import annotations

import hashlib
from pathlib import Path

import pytest

from modelctl.core.access import SourceAccess
from modelctl.core.errors import NotFound, UsageProblem
from modelctl.flows.sources import EntryReport, list_source
from tests.fakes.huggingface import hugging_face
from tests.stores import files_of


def test_every_file_of_a_folder_is_listed_by_path(model: Path) -> None:
    (model / ".git").mkdir()
    (model / ".git" / "HEAD").write_text("x")
    listed = list_source(f"file://{model}")
    assert [(entry.path, entry.size) for entry in listed] == [
        (path, len(content)) for path, content in sorted(files_of(model).items())
    ]


def test_a_folder_states_no_checksum(model: Path) -> None:
    assert {(entry.stated, entry.crc64, entry.sha256) for entry in list_source(str(model))} == {("", None, None)}


def test_what_a_hub_states_is_listed(model: Path) -> None:
    files = files_of(model)
    with hugging_face() as hub:
        hub.put("Qwen/Qwen3-8B", files)
        access = SourceAccess(endpoint=hub.url, credentials=False)
        listed = {entry.path: entry.stated for entry in list_source("hf://Qwen/Qwen3-8B", access)}
    shard, config = "model-00001-of-00004.safetensors", "config.json"
    blob = b"blob %d\0" % len(files[config]) + files[config]
    assert listed[shard] == f"sha256:{hashlib.sha256(files[shard]).hexdigest()}"
    assert listed[config] == f"git-sha1:{hashlib.sha1(blob).hexdigest()}"


@pytest.mark.parametrize(
    ("stated", "shown"),
    [
        ({"crc64": "0"}, "crc64:0"),
        ({"crc64": "5", "git_sha1": "b" * 40}, f"git-sha1:{'b' * 40}"),
        ({"crc64": "5", "sha256": "a" * 64}, f"sha256:{'a' * 64}"),
    ],
)
def test_the_strongest_checksum_is_shown(stated: dict[str, str], shown: str) -> None:
    nothing = {"crc64": None, "sha256": None, "git_sha1": None}
    assert EntryReport(path="a", size=1, version="", **(nothing | stated)).stated == shown


def test_ten_thousand_files_are_listed(tmp_path: Path) -> None:
    for number in range(10_000):
        (tmp_path / f"{number:05}").touch()
    assert [entry.path for entry in list_source(str(tmp_path))] == [f"{number:05}" for number in range(10_000)]


def test_a_folder_that_is_not_there_is_not_found(tmp_path: Path) -> None:
    with pytest.raises(NotFound):
        list_source(f"file://{tmp_path}/nope")


@pytest.mark.parametrize("nothing", ["", "file://", "hf://"])
def test_a_source_without_a_name_is_refused(nothing: str) -> None:
    with pytest.raises(UsageProblem, match=f"cannot read '{nothing}'"):
        list_source(nothing)


def test_a_scheme_that_no_source_has_is_refused() -> None:
    with pytest.raises(UsageProblem, match="no source is named 's4'"):
        list_source("s4://bucket/x")
