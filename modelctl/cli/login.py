"""`modelctl login` and `logout`."""

from __future__ import annotations

import sys
from typing import Annotated

import typer

from modelctl.cli import report
from modelctl.cli.access import reaching_registries
from modelctl.cli.options import DebugFlag, Output, OutputFlag, QuietFlag
from modelctl.core.access import DEFAULT, Access

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

    \b
    Example:
      printf %s "$PASSWORD" | modelctl login registry.example -u alice --password-stdin
    """
    from modelctl.flows.login import log_in

    password = sys.stdin.readline().rstrip("\r\n") if password_stdin else typer.prompt("Password", hide_input=True)
    kept = log_in(registry, user, password, access, in_helper=not no_helper)
    report.print_result({"registry": registry, "user": user, "kept": kept}, output, f"{kept}\n")


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
