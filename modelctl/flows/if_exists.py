"""What becomes of a tag that points elsewhere: `--if-exists`."""

from __future__ import annotations

from typing import Literal, get_args

from modelctl.core.errors import Conflict, NotFound, UsageProblem
from modelctl.core.protocols import Store
from modelctl.core.types import Descriptor

IfExists = Literal["fail", "skip", "replace"]
"""What to do about a tag that points elsewhere."""


def check_if_exists(text: str) -> IfExists:
    """Return `text`, or raise `UsageProblem`."""
    for known in get_args(IfExists):
        if text == known:
            return known  # type: ignore[no-any-return]
    raise UsageProblem(f"--if-exists {text}", why=f"it is one of {', '.join(get_args(IfExists))}")


def may_tag(store: Store, name: str, root: Descriptor, if_exists: IfExists) -> bool:
    """Say whether `name` may be pointed at `root`; `Conflict` when it must not."""
    if if_exists == "replace":
        return True
    try:
        present = store.resolve(name)
    except NotFound:
        return True
    if present.digest != root.digest and if_exists == "fail":
        raise Conflict(
            f"{store}:{name} points elsewhere",
            why=f"to {present.digest}, not to {root.digest}",
            hint="name another tag, or --if-exists replace",
        )
    return present.digest == root.digest
