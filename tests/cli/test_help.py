import subprocess
import sys
from functools import cache

import pytest
import typer
from typer.core import TyperGroup

from modelctl import __version__
from modelctl.cli.main import app
from tests.cli.program import COMMANDS, environment, run

HEAVY = {"blake3", "safetensors", "isal", "fastcrc", "numpy", "msgspec", "urllib3", "requests"}

LISTING = """
import sys
sys.argv = ["modelctl", sys.argv[1], "--help"]
from modelctl.cli.main import main
try:
    main()
finally:
    sys.stderr.write(" ".join(sys.modules))
"""


@cache
def helped(command: str) -> tuple[str, set[str]]:
    """Return the help of a command, and the modules that were imported for it."""
    ended = subprocess.run(
        [sys.executable, "-c", LISTING, command], capture_output=True, text=True, env=environment(), check=True
    )
    return ended.stdout, set(ended.stderr.split())


def test_these_are_the_commands() -> None:
    program = typer.main.get_command(app)
    assert isinstance(program, TyperGroup)
    assert list(COMMANDS) == list(program.commands)


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_shows_an_example(command: str) -> None:
    text, _ = helped(command)
    assert f"modelctl {command} " in text.partition("Example")[2]


@pytest.mark.parametrize("command", COMMANDS)
def test_the_help_of_a_command_imports_no_library_of_the_data_path(command: str) -> None:
    _, modules = helped(command)
    assert HEAVY & modules == set()


def test_the_help_names_every_command() -> None:
    text = run("--help").stdout
    assert [command for command in COMMANDS if f" {command} " not in text] == []


def test_the_help_names_the_exit_statuses() -> None:
    assert "130 interrupted" in run("--help").stdout


def test_the_version_is_printed() -> None:
    assert run("--version").stdout == f"modelctl {__version__}\n"


def test_a_completion_script_is_printed() -> None:
    ended = run("--show-completion", "bash", SHELL="/bin/bash")
    assert (ended.returncode, "complete " in ended.stdout) == (0, True)


def test_the_help_of_pack_offers_no_name_that_pack_refuses() -> None:
    assert ("Without: the source" in helped("pack")[0], "Without: the source" in helped("push")[0]) == (False, True)
