"""`modelctl login` and `logout`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag
from modelctl.core.access import DEFAULT, Access
from modelctl.core.errors import UsageProblem

_RegistryArgument = Annotated[str, typer.Argument(metavar="REGISTRY", help="HOST[:PORT] of the registry.")]


@reaching_registries
def login(
    registry: _RegistryArgument,
    user: Annotated[str, typer.Option("--username", "-u", help="The user.")],
    password_stdin: Annotated[
        bool, typer.Option("--password-stdin", help="Read the password from stdin, not from the terminal.")
    ] = False,
    no_helper: Annotated[
        bool, typer.Option("--no-helper", help="Keep the password in the config itself, not in a helper that it names.")
    ] = False,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Try a user and password at a registry, and keep them where docker keeps them.

    A registry that asks for none cannot try them: the result says so.

    \b
    Example:
      printf %s "$PASSWORD" | modelctl login registry.example -u alice --password-stdin
    """
    from modelctl.flows.login import log_in

    kept = log_in(registry, user, _password(registry, from_stdin=password_stdin), access, in_helper=not no_helper)
    if not kept.tried:
        report.note(f"note: {registry} asked for no credentials, so they were not tried", quiet=quiet)
    report.print_result(kept, output, f"{kept.kept}\n")


def _password(registry: str, *, from_stdin: bool) -> str:
    """Return a password of stdin or of the terminal; bytes that are not UTF-8 come as surrogates."""
    if from_stdin:
        return sys.stdin.buffer.readline().rstrip(b"\r\n").decode(errors="surrogateescape")
    if not sys.stdin.isatty():
        raise UsageProblem(
            f"log in to {registry}", why="stdin is no terminal to ask for a password", hint="--password-stdin"
        )
    return str(typer.prompt("Password", hide_input=True))


@reaching_registries
def logout(
    registry: _RegistryArgument,
    output: OutputFlag = Output.text,
    quiet: QuietFlag = False,
    debug: DebugFlag = False,
    access: Access = DEFAULT,
) -> None:
    """Forget the credentials of a registry.

    \b
    Example:
      modelctl logout registry.example
    """
    from modelctl.flows.login import log_out

    log_out(registry, access)
    report.print_result({"registry": registry}, output, f"{registry}\n")
