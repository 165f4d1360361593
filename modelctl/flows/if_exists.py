"""What becomes of a tag that points elsewhere: `--if-exists`."""

from __future__ import annotations

from modelctl.core.choices import IfExists
from modelctl.core.errors import Conflict, NotFound
from modelctl.core.protocols import Store
from modelctl.core.types import Descriptor


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
