"""Flags that belong together, spelled once and given to many commands."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from functools import wraps
from typing import Any

Command = Callable[..., None]


def with_flags(name: str, make: Callable[..., Any]) -> Callable[[Command], Command]:
    """Return a decorator that puts the parameters of `make`, as flags, behind a command's own.

    The command receives what `make` makes of them as its parameter `name`. A flag that the command has itself is its
    own, and `make` gets the default.
    """
    flags = inspect.signature(make, eval_str=True).parameters

    def decorate(command: Command) -> Command:
        own = inspect.signature(command, eval_str=True).parameters
        added = [flag for flag in flags.values() if flag.name not in own]
        shown = [parameter for parameter in own.values() if parameter.name != name] + added

        @wraps(command)
        def expanded(**values: Any) -> None:
            made = make(**{flag.name: values.pop(flag.name) for flag in added})
            command(**values, **{name: made})

        expanded.__signature__ = inspect.Signature(shown)  # type: ignore[attr-defined]
        expanded.__annotations__ = {parameter.name: parameter.annotation for parameter in shown}
        return expanded

    return decorate
