import json
import re
import zlib
from pathlib import Path

import pytest

from tests.cli.program import run, run_on_terminal
from tests.models import write_model

REFERENCE = r"oci:\S+@sha256:[0-9a-f]{64}\n"
COLOUR = re.compile(r"\x1b\[([0-9;]*;)?(3[0-9]|4[0-9]|9[0-7])(;[0-9;]*)?m")

PRINTING = (
    "inspect REF",
    "inspect REF --tensors",
    "verify REF",
    "digest REF",
    "ls STORE",
    "prune STORE --dry-run",
    "crc32 MODEL",
    "diff REF REF --tensors",
    "diff REF MODEL",
    "ls URL",
)


def words(command: str, model: Path, store: str) -> list[str]:
    known = {"REF": f"{store}:v1", "STORE": store, "MODEL": str(model), "URL": f"file://{model}"}
    return [known.get(word, word) for word in command.split()]


@pytest.mark.parametrize("command", PRINTING)
def test_json_is_one_document(model: Path, store: str, command: str) -> None:
    assert isinstance(json.loads(run(*words(command, model, store), "-o", "json").stdout), dict | list)


@pytest.mark.parametrize("command", PRINTING)
def test_quiet_says_nothing_on_stderr(model: Path, store: str, command: str) -> None:
    assert run(*words(command, model, store), "--quiet").stderr == ""


class TestJourney:
    """Commands that change something, one after the other in a store of their own."""

    @pytest.fixture
    def own(self, tmp_path: Path) -> str:
        return f"oci:{tmp_path}/store"

    def test_json_of_every_command_that_writes_is_one_document(self, model: Path, own: str, tmp_path: Path) -> None:
        commands = (
            ["pack", str(model), f"{own}:v1", "--dry-run"],
            ["pack", str(model), f"{own}:v1"],
            ["tag", f"{own}:v1", "stable"],
            ["pull", f"{own}:v1", str(tmp_path / "target")],
            ["verify", str(tmp_path / "target"), "--against", f"{own}:v1"],
            ["rm", f"{own}:v1"],
            ["prune", own],
        )
        results = [run(*command, "--output", "json", "--quiet") for command in commands]
        assert [(bool(json.loads(ended.stdout)), ended.stderr) for ended in results] == [(True, "")] * len(commands)

    def test_what_was_pulled_packs_to_the_same_digest(self, model: Path, own: str, tmp_path: Path) -> None:
        first = run("pack", model, f"{own}:v1").stdout
        run("pull", f"{own}:v1", tmp_path / "target").check_returncode()
        assert run("pack", tmp_path / "target", f"{own}:v2").stdout == first

    def test_what_was_pulled_are_the_same_files(self, model: Path, store: str, tmp_path: Path) -> None:
        run("pull", f"{store}:v1", tmp_path / "target").check_returncode()
        assert {path.name: path.read_bytes() for path in (tmp_path / "target").iterdir()} == {
            path.name: path.read_bytes() for path in model.iterdir()
        }

    def test_packing_twice_gives_the_same_digest(self, model: Path, own: str) -> None:
        assert run("pack", model, f"{own}:v1").stdout == run("pack", model, f"{own}:v2", "--jobs", "1").stdout

    def test_a_dry_run_writes_nothing(self, model: Path, own: str, tmp_path: Path) -> None:
        run("pack", model, f"{own}:v1", "--dry-run").check_returncode()
        assert list(tmp_path.iterdir()) == []

    def test_a_file_left_out_by_the_layout_may_stand_in_the_crc32_list(self, own: str, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", shards=1, size=100)
        (model / ".cache").mkdir()
        (model / ".cache" / "x").write_bytes(b"x")
        (tmp_path / "sums.txt").write_text(run("crc32", model).stdout)
        assert run("pack", model, own, "--crc32-file", tmp_path / "sums.txt").returncode == 0

    def test_a_folder_passes_the_list_that_was_made_of_it(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", shards=1, size=100)
        (model / "crc32.txt").write_text(run("crc32", model).stdout)
        assert run("crc32", "--check", model).returncode == 0

    def test_a_folder_that_is_not_as_its_list_says_names_the_file(self, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", shards=1, size=100)
        (model / "crc32.txt").write_text(run("crc32", model).stdout)
        (model / "config.json").write_bytes(b"{}")
        ended = run("crc32", "--check", model)
        assert (ended.returncode, "config.json: CRC-32 is a3a6bf43" in ended.stderr) == (4, True)

    def test_a_left_out_name_that_is_not_utf8_is_json_too(self, own: str, tmp_path: Path) -> None:
        model = write_model(tmp_path / "model", shards=1, size=100)
        (model / ".cache").mkdir()
        (model / ".cache" / "\udcff").write_bytes(b"")
        assert json.loads(run("pack", model, own, "-o", "json").stdout)["left_out"] == [".cache/\udcff"]


def test_the_result_of_a_pack_is_the_reference_by_digest(model: Path, tmp_path: Path) -> None:
    assert re.fullmatch(REFERENCE, run("pack", model, f"oci:{tmp_path}/store").stdout)


def test_the_result_of_a_pull_is_the_reference_by_digest(store: str, tmp_path: Path) -> None:
    assert re.fullmatch(REFERENCE, run("pull", f"{store}:v1", tmp_path / "target").stdout)


def test_the_result_of_verify_is_a_crc32_list(model: Path, store: str) -> None:
    lines = [f"{zlib.crc32(path.read_bytes()):08x} {path.name}\n" for path in sorted(model.iterdir())]
    assert run("verify", f"{store}:v1").stdout == "".join(lines)


def test_the_raw_manifest_is_the_blob_of_its_digest(store: str) -> None:
    digest = run("digest", f"{store}:v1").stdout.strip()
    blob = Path(store.removeprefix("oci:")) / "blobs" / "sha256" / digest.removeprefix("sha256:")
    assert run("inspect", f"{store}:v1", "--raw").stdout == blob.read_text()


def test_names_are_utf8_whatever_the_locale(tmp_path: Path) -> None:
    (tmp_path / "模型.md").write_bytes(b"")
    assert run("crc32", tmp_path, PYTHONIOENCODING="ascii").stdout == "00000000 模型.md\n"


class TestTerminal:
    def test_a_terminal_shows_bars(self, model: Path, tmp_path: Path) -> None:
        _, seen = run_on_terminal("pack", str(model), f"oci:{tmp_path}/store")
        assert re.search(r"pack .*━", seen)

    def test_the_result_is_not_among_the_bars(self, model: Path, tmp_path: Path) -> None:
        stdout, _ = run_on_terminal("pack", str(model), f"oci:{tmp_path}/store")
        assert re.fullmatch(REFERENCE, stdout)

    def test_bars_have_colours(self, model: Path, tmp_path: Path) -> None:
        _, seen = run_on_terminal("pack", str(model), f"oci:{tmp_path}/store")
        assert COLOUR.search(seen)

    def test_no_color_has_no_colours(self, model: Path, tmp_path: Path) -> None:
        _, seen = run_on_terminal("pack", str(model), f"oci:{tmp_path}/store", NO_COLOR="1")
        assert not COLOUR.search(seen)

    def test_a_dumb_terminal_gets_plain_lines(self, model: Path, tmp_path: Path) -> None:
        _, seen = run_on_terminal("pack", str(model), f"oci:{tmp_path}/store", TERM="dumb")
        assert "\x1b" not in seen

    def test_quiet_leaves_a_terminal_empty(self, model: Path, tmp_path: Path) -> None:
        _, seen = run_on_terminal("pack", str(model), f"oci:{tmp_path}/store", "--quiet")
        assert seen == ""

    def test_a_pipe_gets_no_escape_codes(self, model: Path, tmp_path: Path) -> None:
        assert "\x1b" not in run("pack", model, f"oci:{tmp_path}/store").stderr
