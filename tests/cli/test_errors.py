import re
import shutil
from pathlib import Path

import pytest

from tests.cli.program import run, run_into_closed_pipe
from tests.models import write_model

THREE_LINES = r"{code}: \S.*\n  why: .+\n(  try: .+\n)?"


@pytest.fixture
def broken(tmp_path: Path) -> Path:
    """A folder where everything is wrong in a way of its own, by file name."""
    write_model(tmp_path / "model", shards=1, size=100)
    (tmp_path / "wrong.txt").write_text("00000000 config.json\n")
    (tmp_path / "broken").mkdir()
    (tmp_path / "broken" / "model.safetensors").write_bytes(b"garbage")
    run("pack", tmp_path / "model", f"oci:{tmp_path}/store:v1").check_returncode()
    shutil.copytree(tmp_path / "store", tmp_path / "rotten")
    digest = run("digest", f"oci:{tmp_path}/rotten:v1").stdout.strip().removeprefix("sha256:")
    manifest = tmp_path / "rotten" / "blobs" / "sha256" / digest
    manifest.write_bytes(manifest.read_bytes().replace(b"weight", b"height"))
    return tmp_path


FAILURES = {
    "a reference that is none": ("usage", 2, "pack model s3://x"),
    "a scheme that is unknown": ("usage", 2, "pack s4://x oci:store"),
    "a second tag that is too long": ("usage", 2, f"pack model oci:store:{'t' * 128} --layout image,modelpack"),
    "a layout that is unknown": ("usage", 2, "pack model oci:store --layout nope"),
    "layouts that share nothing": ("usage", 2, "pack model oci:store --layout image,raw"),
    "too few layers": ("usage", 2, "pack model oci:store --max-layers 2"),
    "an annotation without a value": ("usage", 2, "pack model oci:store --annotation x"),
    "a folder that is not there": ("not-found", 3, "pack missing oci:store"),
    "a store that is not there": ("not-found", 3, "pull oci:missing:v1 target"),
    "a tag that is not there": ("not-found", 3, "inspect oci:store:v9"),
    "a file with another CRC-32": ("checksum-mismatch", 4, "pack model oci:new --crc32-file wrong.txt"),
    "a manifest with other bytes": ("digest-mismatch", 4, "pull oci:rotten:v1 target"),
    "a place one may not write to": ("denied", 7, "pack model oci:/sys/modelctl-test"),
    "a broken shard": ("invalid", 11, "pack broken oci:new"),
    "a store inside the model": ("conflict", 12, "pack model oci:model/store"),
    "a target that is not empty": ("conflict", 12, "pull oci:store:v1 broken"),
}


@pytest.mark.parametrize("case", FAILURES)
def test_a_failure_is_one_error_with_its_own_status(broken: Path, monkeypatch: pytest.MonkeyPatch, case: str) -> None:
    monkeypatch.chdir(broken)
    code, status, command = FAILURES[case]
    ended = run(*command.split())
    assert (ended.returncode, bool(re.fullmatch(THREE_LINES.format(code=code), ended.stderr))) == (status, True)


@pytest.mark.parametrize(
    "command",
    ["pack", "nope", "ls oci:x --nope", "pack a b --jobs 0", "pack a b --output yaml", "verify oci:x --depth deep"],
)
def test_a_wrong_command_line_says_where_help_is(command: str) -> None:
    ended = run(*command.split())
    assert (ended.returncode, bool(re.fullmatch(r"usage: .+\n  try: .+ --help\n", ended.stderr))) == (2, True)


def test_without_a_command_the_help_is_all(model: Path) -> None:
    ended = run()
    assert (ended.returncode, "usage:" in ended.stderr) == (2, False)


def test_a_failure_prints_nothing_on_stdout(tmp_path: Path) -> None:
    assert run("pack", tmp_path / "missing", f"oci:{tmp_path}/store").stdout == ""


def test_debug_shows_where_it_happened_and_then_the_error(tmp_path: Path) -> None:
    stderr = run("ls", f"oci:{tmp_path}/missing", "--debug").stderr
    assert re.search(r"\ATraceback .*\nnot-found: .*\n  why: .*\n\Z", stderr, re.DOTALL)


def test_a_full_disk_under_stdout_is_a_problem_of_the_disk(store: str) -> None:
    with open("/dev/full", "w") as full:
        ended = run("ls", store, stdout=full.fileno())
    assert (ended.returncode, ended.stderr.splitlines()[0]) == (13, "disk: stdout")


@pytest.mark.parametrize("command", ["inspect STORE:v1", "inspect STORE:v1 --raw", "ls STORE", "--help", "--version"])
def test_a_closed_pipe_ends_it_without_a_word(store: str, command: str) -> None:
    ended = run_into_closed_pipe(*command.replace("STORE", store).split())
    assert (ended.returncode, ended.stderr) == (1, "")


def test_an_annotation_that_is_not_utf8_is_refused(model: Path, tmp_path: Path) -> None:
    ended = run("pack", model, f"oci:{tmp_path}/store", "--annotation", "k=\udcff")
    assert (ended.returncode, "Traceback" in ended.stderr) == (2, False)


def test_a_name_that_is_not_utf8_is_refused_by_name(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    (tmp_path / "model" / "caf\udce9.md").write_bytes(b"")
    ended = run("pack", tmp_path / "model", f"oci:{tmp_path}/store")
    assert (ended.returncode, "'caf\\udce9.md'" in ended.stderr) == (11, True)


def test_what_is_refused_writes_nothing(broken: Path) -> None:
    run("pack", broken / "broken", f"oci:{broken}/new")
    assert not (broken / "new").exists()


def test_a_wrong_crc32_leaves_no_manifest(broken: Path) -> None:
    run("pack", broken / "model", f"oci:{broken}/new", "--crc32-file", broken / "wrong.txt")
    blobs = [path.read_bytes() for path in (broken / "new" / "blobs" / "sha256").iterdir()]
    assert [blob for blob in blobs if b"schemaVersion" in blob] == []


TOO_LONG = "/" + 5000 * "a"


@pytest.mark.parametrize(
    "command",
    ["node warm {}", "pack {} oci:store", "crc32 {}", "node rm --root {} sha256:" + 64 * "0", "inspect oci:{}"],
)
def test_a_path_that_no_file_system_takes_is_an_error_of_the_user(command: str) -> None:
    ended = run(*command.format(TOO_LONG).split())
    assert (ended.returncode, "File name too long" in ended.stderr, "internal" in ended.stderr) == (13, True, False)
